//! MirrorMaker 2 as its distribution starts it, tuned for throughput.

use std::fs;
use std::process::Command;

use super::Bench;
use super::mirror::Tuning;
use super::support::cluster::CURRENT;
use super::support::jars;
use super::support::process::Process;
use super::support::scratch::Scratch;

/// Heap and collector, in the variables that Kafka's own scripts obey. The distribution's defaults (G1, 20 ms pauses, 256
/// MiB to begin with) cost MirrorMaker 2 up to twice the processor time: these were the cheapest of those tried.
const JVM: [(&str, &str); 2] =
    [("KAFKA_HEAP_OPTS", "-Xms1G -Xmx2G"), ("KAFKA_JVM_PERFORMANCE_OPTS", "-server -XX:+UseParallelGC")];

/// The JVM's arguments.
pub fn jvm() -> Vec<String> {
    let set = JVM.map(|(variable, default)| std::env::var(variable).unwrap_or_else(|_| default.to_owned()));
    set.iter().flat_map(|options| options.split_whitespace()).map(str::to_owned).collect()
}

/// A running MirrorMaker 2; killed when dropped.
pub struct MirrorMaker {
    process: Process,
    _directory: Scratch,
}

impl MirrorMaker {
    /// Starts it on one topic and returns at once. `alias` names the source: topics arrive as `alias.topic`, and what
    /// MirrorMaker keeps on the target carries it too, so that a new alias is a new start.
    pub fn start(bench: &Bench, alias: &str, topic: &str, codec: &str) -> MirrorMaker {
        let directory = Scratch::new("mm2");
        let file = directory.path().join("mm2.properties");
        let (from, to) = (bench.source.bootstrap(), bench.target.bootstrap());
        let text = format!(
            "clusters={alias}, {alias}t\n\
             {alias}.bootstrap.servers={from}\n\
             {alias}t.bootstrap.servers={to}\n\
             {alias}->{alias}t.enabled=true\n\
             {alias}->{alias}t.topics={topic}\n\
             {alias}t->{alias}.enabled=false\n\
             tasks.max=6\n\
             replication.factor=1\n\
             checkpoints.topic.replication.factor=1\n\
             heartbeats.topic.replication.factor=1\n\
             offset-syncs.topic.replication.factor=1\n\
             offset.storage.replication.factor=1\n\
             status.storage.replication.factor=1\n\
             config.storage.replication.factor=1\n\
             sync.group.offsets.enabled=true\n\
             sync.group.offsets.interval.seconds=1\n\
             emit.checkpoints.interval.seconds=1\n\
             refresh.groups.interval.seconds=5\n\
             refresh.topics.interval.seconds=5\n\
             {alias}t.offset.flush.interval.ms=1000\n\
             {alias}.consumer.auto.offset.reset=earliest\n\
             {alias}.consumer.fetch.max.bytes=52428800\n\
             {alias}.consumer.max.partition.fetch.bytes=8388608\n\
             {alias}.consumer.max.poll.records=5000\n\
             {alias}t.producer.batch.size=524288\n\
             {alias}t.producer.linger.ms=5\n\
             {alias}t.producer.buffer.memory=134217728\n\
             {alias}t.producer.max.request.size=8388608\n\
             {alias}t.producer.max.in.flight.requests.per.connection=5\n\
             {alias}t.producer.compression.type={codec}\n{}",
            match bench.tuning {
                Tuning::Near => String::new(),
                Tuning::Far(_) => far(alias),
            }
        );
        fs::write(&file, text).expect("the scratch directory can be written");
        let mut java = Command::new("java");
        let logging = jars::logging(CURRENT, directory.path());
        java.args(jvm()).arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        java.arg("-cp").arg(jars::jars(CURRENT).join("*"));
        java.arg("org.apache.kafka.connect.mirror.MirrorMaker").arg(&file);
        let process = Process::start("MirrorMaker 2", &java, &directory.path().join("mm2.log"));
        MirrorMaker { process, _directory: directory }
    }

    /// Pid of the JVM.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of its output, for messages.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

/// What helps over a long path: one fetch at a time is as large as brokers let it be, as are the five batches of a
/// partition that a producer may have on their way. The last of equal keys wins.
fn far(alias: &str) -> String {
    format!(
        "{alias}.consumer.fetch.max.bytes=104857600\n\
         {alias}.consumer.max.partition.fetch.bytes=52428800\n\
         {alias}.consumer.max.poll.records=20000\n\
         {alias}.consumer.receive.buffer.bytes=-1\n\
         {alias}t.producer.send.buffer.bytes=-1\n\
         {alias}t.producer.batch.size=1000000\n\
         {alias}t.producer.linger.ms=20\n"
    )
}
