//! The program: parse, load, run.

use std::panic;
use std::process::ExitCode;

/// librdkafka allocates through it too (unprefixed): memory made on one thread and freed on another is its strength.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two workers carry the whole program: records are not opened, so there is little to compute.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    // A process of which one task has panicked looks alive and is not. It ends at once, as by `kill -9`, which loses nothing.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        report(panicked);
        std::process::abort();
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("twinlog")
        .enable_all()
        .build()
        .expect("threads can be started");
    let environment = twinlog::config::Environment::of_process();
    runtime.block_on(twinlog::cli::run(std::env::args_os(), &environment, twinlog::app::run, twinlog::app::order))
}
