//! Child processes that never outlive the test process, however it ends.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A server started for a test. Killed with `SIGKILL` when this value is dropped *or* when the test process
/// dies: a shell holds the other end of a pipe and kills the server when the pipe closes.
#[derive(Debug)]
pub struct Server {
    shell: Child,
    /// The file with the server's own process id.
    id: PathBuf,
    _alive: ChildStdin,
}

impl Server {
    /// Starts `program` with `arguments` in `folder`; its output goes to `folder/NAME.log`.
    ///
    /// # Errors
    /// When the shell cannot be started or the log not be created.
    pub fn start<A: AsRef<OsStr>>(
        folder: &Path,
        name: &str,
        program: &str,
        arguments: &[A],
    ) -> io::Result<Self> {
        let log =
            std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        let script = r#"exec 3<&0
            "$@" </dev/null 3<&- & server=$!
            echo $server > "$0.id"
            cat <&3 >/dev/null & pipe=$!
            trap 'kill -9 $server $pipe 2>/dev/null; wait; exit 0' TERM
            trap 'kill -TERM $server' USR1
            status=138 # that a signal, USR1, has ended the wait
            while [ $status = 138 ]; do wait -n $server $pipe; status=$?; done
            kill -9 $server $pipe 2>/dev/null
            exit $status"#;
        let mut shell = Command::new("bash")
            .arg("-c")
            .arg(script)
            .arg(name)
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let alive = shell.stdin.take().ok_or_else(|| io::Error::other("the shell has no stdin"))?;
        Ok(Self { shell, id: folder.join(format!("{name}.id")), _alive: alive })
    }

    /// Sends the server a signal, such as `STOP` and `CONT`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let id = std::fs::read_to_string(&self.id)?;
        let status = Command::new("kill").arg(format!("-{signal}")).arg(id.trim()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill: {status}"))) }
    }

    /// Whether the server still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.shell.try_wait(), Ok(None))
    }

    /// Kills the server with `SIGKILL`, and waits until it is gone.
    pub fn kill(&mut self) {
        // The shell turns SIGTERM into SIGKILL of the server.
        let _ = Command::new("kill").arg(self.shell.id().to_string()).status();
        let _ = self.shell.wait();
    }

    /// Asks the server to end, by `SIGTERM`.
    ///
    /// # Errors
    /// When no signal can be sent.
    pub fn terminate(&self) -> io::Result<()> {
        // The shell passes it on.
        Command::new("kill").args(["-USR1", &self.shell.id().to_string()]).status().map(|_| ())
    }

    /// Waits for the server to end by itself.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.shell.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // The shell turns SIGTERM into SIGKILL of the server.
        let _ = Command::new("kill").arg(self.shell.id().to_string()).status();
        let _ = self.shell.wait();
    }
}

/// Below the range from which Linux takes the ports of outgoing connections: none of those can take a port that a server
/// has not opened yet, or has to open again after a restart.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// `count` TCP ports on 127.0.0.1 that were free a moment ago, none of which this process gets a second time.
///
/// # Errors
/// When the system has none to give.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(PORTS.end - PORTS.start);
    // Processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(211) % range;
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        if tried >= range {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("all of the ports {PORTS:?} were tried"),
            ));
        }
        let port = PORTS.start + ((start + tried) % range) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}
