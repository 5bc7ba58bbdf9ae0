//! Exactly once on the embedded broker, a process of its own with its data in a folder: job and broker die by
//! SIGKILL, again and again.

use std::net::TcpStream;
use std::path::Path;

use tidewater_tests::kills::{Campaign, kills_or, seed};
use tidewater_tests::patience::comes_about;
use tidewater_tests::process::{Server, free_ports};
use tidewater_tests::programs;

/// Serves on `port` what is in the folder.
fn serve(folder: &Path, port: u16) -> Server {
    let address = format!("127.0.0.1:{port}");
    let data = folder.join("data");
    let program = programs::tidewater().to_string_lossy();
    let arguments = ["broker", "--listen", &address, "--data", &data.to_string_lossy()];
    let server = Server::start(folder, "broker", &program, &arguments).expect("start the broker");
    let listens = comes_about(|| TcpStream::connect(&address).is_ok());
    let log = || std::fs::read_to_string(folder.join("broker.log")).unwrap_or_default();
    assert!(listens, "the broker does not listen on {address}: {}", log());
    server
}

#[test]
fn each_window_once_whenever_job_and_broker_are_killed() {
    let folder = tempfile::tempdir().expect("a folder for the broker");
    let port = free_ports(1).expect("a free port")[0];
    let mut server = serve(folder.path(), port);
    let campaign = Campaign {
        name: "kills-embedded",
        bootstrap: &format!("127.0.0.1:{port}"),
        seed: seed(),
        kills: kills_or(50),
        broker_kill_every: 5,
        kill_broker: &mut |_| {
            server.kill();
            server = serve(folder.path(), port);
        },
    };
    campaign.run().check_phases();
}
