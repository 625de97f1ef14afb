//! The program: parse, load, run.

use std::process::ExitCode;

/// librdkafka allocates through it too (unprefixed): memory made on one thread and freed on another is its strength.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two workers carry the whole program: records are not opened, so there is little to compute.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("twinlog")
        .enable_all()
        .build()
        .expect("threads can be started");
    let environment = twinlog::config::Environment::of_process();
    runtime.block_on(twinlog::cli::run(std::env::args_os(), &environment, twinlog::app::run, twinlog::app::order))
}
