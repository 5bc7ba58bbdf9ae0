//! Real Apache Kafka clusters (KRaft) from Maven Central's jars, on ports of their own.
//!
//! Needs a JDK (17) and Maven. Where they are missing, [`available`] says so aloud and the test ends; with
//! `CI=true` it fails instead, because CI must have run it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;

use crate::patience::comes_about;
use crate::process::{Server, free_ports};
use crate::proxy::Proxy;

/// A Kafka release that the suites run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The newest: transaction protocol v2 (KIP-890).
    V4_3,
    /// The last line before 4.0: transaction protocol v1.
    V3_9,
    /// The last that many run with ZooKeeper; one node only here.
    V2_8,
    /// The oldest: transactions of consumer groups (KIP-447) begin with its successor. One node only here.
    V2_4,
}

impl Version {
    /// As Maven Central spells it.
    pub const fn number(self) -> &'static str {
        match self {
            Self::V4_3 => "4.3.0",
            Self::V3_9 => "3.9.2",
            Self::V2_8 => "2.8.2",
            Self::V2_4 => "2.4.1",
        }
    }

    fn slf4j_binding(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::V4_3 => ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),
            Self::V3_9 => ("org.slf4j", "slf4j-nop", "1.7.36"),
            // The broker itself calls log4j 1.
            Self::V2_8 | Self::V2_4 => ("org.slf4j", "slf4j-log4j12", "1.7.36"),
        }
    }

    /// Whether its brokers keep the cluster's metadata in ZooKeeper.
    const fn has_zookeeper(self) -> bool {
        matches!(self, Self::V2_8 | Self::V2_4)
    }

    /// Where its command line tools are.
    const fn tools_package(self) -> &'static str {
        if self.has_zookeeper() { "kafka.admin" } else { "org.apache.kafka.tools" }
    }
}

/// Whether real Kafka can be run here. Says aloud what is missing; with `CI=true` that is a failure.
///
/// # Panics
/// With `CI=true` when Java or Maven is missing.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let missing: Vec<&str> = [("java", "-version"), ("mvn", "-version")]
            .into_iter()
            .filter(|(tool, flag)| !runs(tool, flag))
            .map(|(tool, _)| tool)
            .collect();
        if missing.is_empty() {
            return true;
        }
        let text =
            format!("SKIPPED: the suites on real Kafka need {} (JDK 17, Maven)", missing.join(" and "));
        assert!(std::env::var_os("CI").is_none(), "{text}; CI must run them");
        eprintln!("{text}");
        false
    })
}

/// Releases of the long form, [`Version::V2_8`] and [`Version::V2_4`], with `TIDEWATER_OLD_KAFKA=1`; none
/// otherwise, and that is said.
pub fn old_versions() -> &'static [Version] {
    if std::env::var_os("TIDEWATER_OLD_KAFKA").is_none() {
        eprintln!("SKIPPED: Kafka 2.8 and 2.4 belong to the long form (TIDEWATER_OLD_KAFKA=1)");
        return &[];
    }
    &[Version::V2_8, Version::V2_4]
}

pub(crate) fn runs(tool: &str, flag: &str) -> bool {
    Command::new(tool).arg(flag).output().is_ok_and(|output| output.status.success())
}

/// The folder with a release's jars; fetched on first use (about 20 s).
///
/// # Panics
/// When Maven cannot fetch them.
pub fn jars(version: Version) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = build_folder().join("kafka").join(version.number());
    let done = folder.join("complete");
    if !done.exists() {
        fetch_jars(version, &folder)
            .unwrap_or_else(|error| panic!("fetch Kafka {}: {error}", version.number()));
        std::fs::write(done, "").expect("mark the jars complete");
    }
    folder.join("libs")
}

/// The same folder, after Kafka Streams has been put into it (2 MB, about 5 s). Stores on disk lack their library,
/// RocksDB.
///
/// # Panics
/// When Maven cannot fetch it.
pub fn jars_with_streams(version: Version) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let libs = jars(version);
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !libs.join(format!("kafka-streams-{}.jar", version.number())).exists() {
        let output = Command::new("mvn")
            .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:copy"])
            .arg(format!("-Dartifact=org.apache.kafka:kafka-streams:{}", version.number()))
            .arg(format!("-DoutputDirectory={}", libs.display()))
            .output()
            .expect("run Maven");
        assert!(output.status.success(), "fetch Kafka Streams: {}", text(&output));
    }
    libs
}

/// The folder in which everything is built.
pub(crate) fn build_folder() -> PathBuf {
    // A test binary lives in TARGET/PROFILE/deps.
    let binary = std::env::current_exe().expect("path of the test binary");
    binary.ancestors().nth(3).expect("a test binary lies three levels below the build folder").to_path_buf()
}

fn fetch_jars(version: Version, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut dependencies = String::new();
    let (group, artifact, binding) = version.slf4j_binding();
    for (group, artifact, version) in [
        ("org.apache.kafka", "kafka_2.13", version.number()),
        ("org.apache.kafka", "kafka-tools", version.number()),
        (group, artifact, binding),
    ] {
        let _ = write!(
            dependencies,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        );
    }
    std::fs::write(
        folder.join("pom.xml"),
        format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>tidewater</groupId><artifactId>kafka</artifactId>\
             <version>1</version><dependencies>{dependencies}</dependencies></project>"
        ),
    )?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"])
        .current_dir(folder)
        .output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other(text(&output))) }
}

/// The levels of its features with which a cluster starts.
const FEATURES: &str = "bootstrap.checkpoint";

/// The file of that name as a release's own tool writes it, at first use.
fn initial_features(version: Version) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let libs = jars(version);
    let features = libs.with_file_name(FEATURES);
    if !features.exists() {
        let folder = tempfile::tempdir_in(build_folder()).expect("a folder");
        let (properties, data) = (folder.path().join("properties"), folder.path().join("data"));
        let lines = format!(
            "process.roles=controller\nnode.id=0\ncontroller.listener.names=CONTROLLER\n\
             controller.quorum.voters=0@127.0.0.1:1\nlisteners=CONTROLLER://127.0.0.1:1\nlog.dirs={}\n",
            data.display()
        );
        std::fs::write(&properties, lines).expect("write a configuration");
        let class_path = format!("{}/*", libs.display());
        let path = properties.to_string_lossy();
        let output =
            java(&class_path, &["kafka.tools.StorageTool", "format", "-t", &random_id(), "-c", &path]);
        assert!(output.status.success(), "format: {}", text(&output));
        std::fs::rename(data.join(FEATURES), &features).expect("keep the features");
    }
    features
}

/// As Kafka writes its UUIDs: 128 random bits in base64.
fn random_id() -> String {
    let bits = || RandomState::new().hash_one(()).to_be_bytes();
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode([bits(), bits()].concat())
}

fn java(class_path: &str, arguments: &[&str]) -> Output {
    Command::new("java")
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", class_path])
        .args(arguments)
        .output()
        .expect("run java")
}

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kafka's release.
    pub version: Version,
    /// Combined broker and controller nodes, 1 to 3; 1 where ZooKeeper is the controller's.
    pub nodes: usize,
    /// Lines added to each `server.properties`.
    pub properties: Vec<(String, String)>,
    /// Whether clients reach the nodes through a [`Proxy`].
    pub proxied: bool,
    /// A folder of classes that nodes can load, too.
    pub classes: Option<PathBuf>,
    /// System properties of each node's Java.
    pub system_properties: Vec<(String, String)>,
}

impl Options {
    /// `nodes` nodes of `version`, plaintext.
    pub fn new(version: Version, nodes: usize) -> Self {
        Self {
            version,
            nodes,
            properties: Vec::new(),
            proxied: false,
            classes: None,
            system_properties: Vec::new(),
        }
    }

    /// Puts a [`Proxy`] before each node: all traffic of clients and between tools and nodes passes it.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Lets nodes load the classes of this folder, for plugins.
    #[must_use]
    pub fn classes(mut self, folder: &Path) -> Self {
        self.classes = Some(folder.to_path_buf());
        self
    }

    /// Sets a system property of each node's Java.
    #[must_use]
    pub fn system_property(mut self, name: &str, value: &str) -> Self {
        self.system_properties.push((name.into(), value.into()));
        self
    }

    /// Adds a line to each node's `server.properties`, which wins over the harness's own. `{node}`, `{port}` and
    /// `{controller_port}` in it stand for the node's.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }
}

/// A running cluster; its nodes die with this value.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    folder: tempfile::TempDir,
    jars: PathBuf,
    ports: Vec<u16>,
    advertised_ports: Vec<u16>,
    proxy: Option<Proxy>,
    /// Of the controllers; of ZooKeeper, where there is one.
    controller_ports: Vec<u16>,
    nodes: Mutex<Vec<Option<Server>>>,
    zookeeper: Mutex<Option<Server>>,
}

impl Cluster {
    /// Formats and starts a cluster, and waits until every node listens and knows all the others.
    ///
    /// # Panics
    /// When Kafka does not come up in two minutes; its log is shown.
    pub fn start(options: Options) -> Self {
        let jars = jars(options.version);
        let ports = free_ports(options.nodes).expect("free ports");
        let controller_ports = free_ports(options.nodes).expect("free ports");
        let advertised_ports =
            if options.proxied { free_ports(options.nodes).expect("free ports") } else { ports.clone() };
        let proxy = options.proxied.then(|| {
            let pairs = advertised_ports.iter().copied().zip(ports.iter().copied());
            Proxy::start(pairs).expect("start the proxy")
        });
        let folder = tempfile::tempdir().expect("a folder for the cluster");
        let nodes = Mutex::new((0..options.nodes).map(|_| None).collect());
        let zookeeper = Mutex::new(None);
        let cluster = Self {
            options,
            folder,
            jars,
            ports,
            advertised_ports,
            proxy,
            controller_ports,
            nodes,
            zookeeper,
        };
        if cluster.options.version.has_zookeeper() {
            assert_eq!(cluster.options.nodes, 1, "clusters with ZooKeeper have one node here");
            cluster.start_zookeeper();
            cluster.configure(0);
            cluster.start_node(0);
        } else {
            cluster.start_quorum();
        }
        cluster.wait_until_ready();
        cluster
    }

    fn start_quorum(&self) {
        let cluster_id = random_id();
        for node in 0..self.options.nodes {
            self.format(node, &cluster_id);
            self.start_node(node);
        }
    }

    fn start_zookeeper(&self) {
        let folder = self.folder.path().join("zookeeper");
        std::fs::create_dir_all(&folder).expect("a folder for ZooKeeper");
        let port = self.controller_ports[0];
        let arguments = [
            "-Xmx128m",
            // Ports are chosen by the system here, and the web page for administrators has a fixed one.
            "-Dzookeeper.admin.enableServer=false",
            "-cp",
            &self.class_path(),
            "org.apache.zookeeper.server.ZooKeeperServerMain",
            &port.to_string(),
            &folder.to_string_lossy(),
        ];
        let server = Server::start(self.folder.path(), "zookeeper", "java", &arguments);
        *self.zookeeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(server.expect("start ZooKeeper"));
        self.wait_for_port(port, "ZooKeeper");
    }

    /// The node that all tests of this binary share, proxied, for faults by `client.id`. Never stopped before the
    /// process ends.
    pub fn shared(version: Version) -> &'static Self {
        type Shared = Mutex<HashMap<Version, &'static OnceLock<Cluster>>>;
        static SHARED: OnceLock<Shared> = OnceLock::new();
        let mut shared =
            SHARED.get_or_init(Shared::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cluster: &'static OnceLock<Self> =
            shared.entry(version).or_insert_with(|| Box::leak(Box::default()));
        // The tests of another release do not wait for this one.
        drop(shared);
        cluster.get_or_init(|| Self::start(Options::new(version, 1).proxied()))
    }

    /// `host:port` of all nodes, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.advertised_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// The proxy before the nodes of a [proxied](Options::proxied) cluster.
    ///
    /// # Panics
    /// When the cluster has none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the cluster was started without a proxy")
    }

    /// How many requests of `api` a node (counted from 0) of a proxied cluster has had from `client`.
    ///
    /// # Panics
    /// When the cluster is not proxied.
    pub fn requests(&self, node: usize, client: &str, api: i16) -> usize {
        self.proxy().requests(self.ports[node], client, api)
    }

    /// The release it runs.
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// The jars of its release.
    pub fn jars(&self) -> &Path {
        &self.jars
    }

    /// Kills a node (counted from 0) with `SIGKILL`.
    pub fn kill(&self, node: usize) {
        self.lock()[node] = None;
    }

    /// Ends a node as operators do, by `SIGTERM`: it hands its partitions over first. Waits until it is gone.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn stop(&self, node: usize) {
        let server = self.lock()[node].take();
        let mut server = server.expect("the node was killed");
        server.terminate().expect("ask the node to end");
        server.wait().expect("wait for the node");
    }

    /// Freezes a node with `SIGSTOP`: its connections stay, and nothing answers. `SIGCONT` thaws it.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn freeze(&self, node: usize, is_frozen: bool) {
        let nodes = self.lock();
        let server = nodes[node].as_ref().expect("the node was killed");
        server.signal(if is_frozen { "STOP" } else { "CONT" }).expect("signal the node");
    }

    /// Starts a killed node again, on its old port with its old log.
    pub fn start_node(&self, node: usize) {
        let configuration = self.node_folder(node).join("server.properties");
        let mut arguments = ["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            .map(str::to_owned)
            .to_vec();
        let system = self.options.system_properties.iter();
        arguments.extend(system.map(|(name, value)| format!("-D{name}={value}")));
        arguments.extend(["-cp".to_owned(), self.class_path(), "kafka.Kafka".to_owned()]);
        arguments.push(configuration.to_string_lossy().into_owned());
        let server = Server::start(self.folder.path(), &format!("node{node}"), "java", &arguments);
        self.lock()[node] = Some(server.expect("start a Kafka node"));
    }

    /// Runs one of Kafka's command line tools (`org.apache.kafka.tools.NAME`, before 3.0 `kafka.admin.NAME`, or a
    /// class with its package) against this cluster.
    ///
    /// # Panics
    /// When it fails; its output is shown.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> String {
        self.tool_at(&self.bootstrap(), name, arguments)
    }

    /// The same by a listener of the test's own.
    ///
    /// # Panics
    /// When it fails; its output is shown.
    pub fn tool_at(&self, bootstrap: &str, name: &str, arguments: &[&str]) -> String {
        let package = self.options.version.tools_package();
        let class = if name.contains('.') { name.to_owned() } else { format!("{package}.{name}") };
        let mut all = vec![class.as_str(), "--bootstrap-server", bootstrap];
        all.extend_from_slice(arguments);
        let output = java(&self.class_path(), &all);
        assert!(output.status.success(), "{name} {arguments:?}: {}", text(&output));
        text_of_stdout(&output)
    }

    /// Creates a topic with Kafka's own tool, replicated to all nodes.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        let (partitions, replicas) = (partitions.to_string(), self.options.nodes.to_string());
        self.tool(
            "TopicCommand",
            &["--create", "--topic", topic, "--partitions", &partitions, "--replication-factor", &replicas],
        );
    }

    /// What the nodes logged.
    pub fn logs(&self) -> String {
        (0..self.options.nodes)
            .map(|node| {
                std::fs::read_to_string(self.folder.path().join(format!("node{node}.log")))
                    .unwrap_or_default()
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Server>>> {
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn class_path(&self) -> String {
        match &self.options.classes {
            Some(folder) => format!("{}/*:{}", self.jars.display(), folder.display()),
            None => format!("{}/*", self.jars.display()),
        }
    }

    fn node_folder(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    fn configure(&self, node: usize) {
        let folder = self.node_folder(node);
        std::fs::create_dir_all(&folder).expect("a folder for the node");
        std::fs::write(folder.join("server.properties"), self.server_properties(node))
            .expect("write server.properties");
    }

    /// Does what Kafka's tool does, which takes more than a second for each node.
    fn format(&self, node: usize, cluster_id: &str) {
        self.configure(node);
        let data = self.node_folder(node).join("data");
        std::fs::create_dir_all(&data).expect("a folder for the node's log");
        let properties =
            format!("version=1\ncluster.id={cluster_id}\nnode.id={node}\ndirectory.id={}\n", random_id());
        std::fs::write(data.join("meta.properties"), properties).expect("write meta.properties");
        let features = initial_features(self.options.version);
        std::fs::copy(features, data.join(FEATURES)).expect("copy the release's features");
    }

    fn server_properties(&self, node: usize) -> String {
        let (port, controller_port) = (self.ports[node], self.controller_ports[node]);
        let replicas = self.options.nodes.min(3);
        let in_sync = if replicas == 3 { 2 } else { 1 };
        let data = self.node_folder(node).join("data");
        // Tests write event times of years ago: by the default retention Kafka would delete them half a
        // minute after its start.
        let mut lines = format!(
            "{}\
             log.dirs={}\n\
             min.insync.replicas={in_sync}\n\
             default.replication.factor={replicas}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=8\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=8\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             share.coordinator.state.topic.num.partitions=8\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
             log.cleaner.backoff.ms=500\n\
             group.initial.rebalance.delay.ms=0\n\
             group.consumer.min.heartbeat.interval.ms=200\n\
             group.consumer.heartbeat.interval.ms=300\n\
             group.consumer.min.session.timeout.ms=6000\n\
             group.share.min.heartbeat.interval.ms=200\n\
             group.share.heartbeat.interval.ms=300\n\
             group.share.min.record.lock.duration.ms=1000\n\
             log.retention.ms=-1\n",
            self.listener_properties(node),
            data.display(),
        );
        for (name, value) in &self.options.properties {
            let value = value
                .replace("{node}", &node.to_string())
                .replace("{port}", &port.to_string())
                .replace("{controller_port}", &controller_port.to_string());
            let _ = writeln!(lines, "{name}={value}");
        }
        lines
    }

    fn listener_properties(&self, node: usize) -> String {
        let (port, advertised_port) = (self.ports[node], self.advertised_ports[node]);
        let controller_port = self.controller_ports[node];
        let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{advertised_port}");
        if self.options.version.has_zookeeper() {
            return format!(
                "broker.id={node}\n\
                 zookeeper.connect=127.0.0.1:{controller_port}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port}\n\
                 {advertised}\n"
            );
        }
        let voters: Vec<String> = self
            .controller_ports
            .iter()
            .enumerate()
            .map(|(node, port)| format!("{node}@127.0.0.1:{port}"))
            .collect();
        format!(
            "process.roles=broker,controller\n\
             node.id={node}\n\
             controller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             {advertised}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT\n",
            voters.join(","),
        )
    }

    /// A node listens only when it has joined the quorum, so open ports say that the cluster is up.
    fn wait_until_ready(&self) {
        for (node, port) in self.ports.iter().enumerate() {
            self.wait_for_port(*port, &format!("Kafka node {node}"));
        }
    }

    fn wait_for_port(&self, port: u16, name: &str) {
        let up = comes_about(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(up, "{name} did not open port {port}:\n{}", self.logs());
    }
}

fn text_of_stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
