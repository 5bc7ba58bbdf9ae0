//! Serves a cluster until the process is stopped: `serve [LISTEN] [NODES] [DATA FOLDER]`.

use tidewater_broker::{EmbeddedBroker, Options};

#[allow(clippy::print_stdout, reason = "a program says on its output where it listens")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let nodes = arguments.next().map_or(Ok(1), |nodes| nodes.parse())?;
    let data = arguments.next().map(Into::into);
    let broker = EmbeddedBroker::start(Options { listen, nodes, data, ..Options::default() })?;
    println!("bootstrap.servers={}", broker.bootstrap());
    loop {
        std::thread::park();
    }
}
