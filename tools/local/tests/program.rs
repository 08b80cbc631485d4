//! The program as it is used: what it prints, and which files it leaves behind on every way out.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// A folder to start stacks in.
struct Folder(TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn local(&self) -> PathBuf {
        self.0.path().join(".local")
    }

    fn stack_file(&self) -> PathBuf {
        self.local().join("stack.json")
    }

    /// The names of the files that describe a stack.
    fn files(&self) -> Result<Vec<String>> {
        if !self.local().exists() {
            return Ok(Vec::new());
        }
        let names = fs::read_dir(self.local())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn program(&self, port: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
        command.current_dir(self.0.path()).args(["--port", port]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    /// Starts a stack, and waits for what it prints.
    fn start(&self) -> Result<Running> {
        let mut child = self.program("0").spawn()?;
        let output = child.stdout.take();
        let mut running = Running {
            child,
            output: BufReader::new(output.context("no output")?),
        };
        let mut first = String::new();
        running.output.read_line(&mut first)?;
        ensure!(first.starts_with("The API is running at "), "{first}");
        Ok(running)
    }
}

/// A stack, killed if the test fails.
struct Running {
    child: Child,
    /// Open as long as it runs, or it could not print.
    output: BufReader<ChildStdout>,
}

impl Running {
    fn stop(mut self, signal: &str) -> Result<ExitStatus> {
        let id = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &id])
            .status()?;
        ensure!(sent.success(), "cannot send {signal}");
        Ok(self.child.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stopped_stack_leaves_no_file_behind() -> Result<()> {
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        let folder = Folder::new()?;
        let stack = folder.start()?;
        assert_eq!(folder.files()?, ["env", "stack.json"], "{signal}");
        let status = stack.stop(signal)?;
        assert!(status.success(), "{signal}: {status}");
        assert!(folder.files()?.is_empty(), "{signal}");
    }
    Ok(())
}

#[test]
fn a_stopped_stack_leaves_the_files_of_another_one() -> Result<()> {
    let folder = Folder::new()?;
    let (first, second) = (folder.start()?, folder.start()?);
    let description = fs::read(folder.stack_file())?;
    assert!(first.stop("INT")?.success());
    assert_eq!(folder.files()?, ["env", "stack.json"]);
    assert!(
        fs::read(folder.stack_file())? == description,
        "it describes the second stack"
    );

    // One that does not start leaves them, too.
    let api: serde_json::Value = serde_json::from_slice(&description)?;
    let port = api["apiUrl"].as_str().and_then(|url| url.split([':', '/']).nth(4));
    let refused = folder.program(port.context("no port")?).status()?;
    assert_eq!(refused.code(), Some(2), "the port is in use");
    assert!(fs::read(folder.stack_file())? == description);

    assert!(second.stop("TERM")?.success());
    assert!(folder.files()?.is_empty());
    Ok(())
}

#[test]
fn a_stack_that_cannot_print_or_write_its_files_leaves_none() -> Result<()> {
    let folder = Folder::new()?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let status = folder.program("0").stdout(writer).status()?;
    assert_eq!((status.code(), folder.files()?), (Some(1), Vec::new()));

    // The last one cannot take the place of a folder.
    fs::create_dir_all(folder.stack_file())?;
    let status = folder.program("0").status()?;
    assert_eq!(
        (status.code(), folder.files()?),
        (Some(1), vec!["stack.json".to_owned()])
    );
    assert!(Path::is_dir(&folder.stack_file()));
    Ok(())
}
