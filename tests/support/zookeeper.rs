//! What brokers before KRaft keep their cluster in: one ZooKeeper, from the jars that come with them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::jars;
use super::port::Port;
use super::process::Process;

/// A running ZooKeeper; gone when dropped, or with this process.
#[derive(Debug)]
pub struct ZooKeeper {
    port: Port,
    _process: Process,
}

impl ZooKeeper {
    /// Starts the one of a Kafka version, with its data in `directory`, and returns at once: brokers wait for it.
    pub fn start(version: &str, directory: &Path) -> ZooKeeper {
        let fits = "the scratch directory can be written";
        fs::create_dir_all(directory).expect(fits);
        let port = Port::reserve();
        let settings = directory.join("zookeeper.properties");
        let text = format!(
            "dataDir={}\nclientPortAddress={}\nclientPort={}\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            directory.join("data").display(),
            port.address().ip(),
            port.address().port(),
        );
        fs::write(&settings, text).expect(fits);
        let mut java = jars::java(version, jars::SMALL, &jars::logging(version, directory));
        java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&settings);
        let process = Process::start("zookeeper", &java, &directory.join("zookeeper.log"));
        ZooKeeper { port, _process: process }
    }

    /// Where brokers connect.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }
}
