//! What is measured: the functions, the floors, and the same functions in other languages, all built here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, iter};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::Launch;
use crate::world::{Sample, World, init_auth_event, register_event, validate_otp_event};

pub(crate) const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// What Debian must have for all of it.
const PACKAGES: &str = "apt-get install valgrind wrk python3-venv nodejs npm cmake autoconf automake libtool g++ make";

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    InitAuth,
    ValidateOtp,
    Register,
    /// Any event, answered without looking at it.
    Constant,
}

impl Task {
    /// The event for a sample, and the status of its answer.
    pub(crate) fn event(self, world: &World, sample: &Sample) -> Result<(String, u64)> {
        Ok(match self {
            Self::InitAuth => (init_auth_event(&sample.user)?, 201),
            Self::Register => (register_event(&sample.user)?, 201),
            Self::ValidateOtp | Self::Constant => {
                let body = json!({ "otp": world.stores.code(0) });
                (validate_otp_event(&sample.auth_id, &body)?, 200)
            }
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Rust,
    /// The same programs, with seeds that are sealed beside their devices.
    Sealed,
    Python,
    Node,
    TwoCalls,
    ConstantAnswer,
}

impl Kind {
    pub(crate) const PEERS: [Self; 2] = [Self::Python, Self::Node];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust, this project",
            Self::Sealed => "Rust, sealed seeds",
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::TwoCalls => "floor: the two calls",
            Self::ConstantAnswer => "floor: a constant",
        }
    }
}

/// One function.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) task: Task,
    pub(crate) launch: Launch,
    /// What is deployed: files or folders.
    pub(crate) deployed: Vec<PathBuf>,
}

impl Subject {
    pub(crate) fn bytes(&self) -> Result<u64> {
        self.deployed.iter().map(|path| size_of(path)).sum()
    }

    /// The size of what Lambda gets.
    pub(crate) fn zipped_bytes(&self) -> Result<u64> {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("function.zip");
        let mut python = Command::new("python3");
        python.args(["-m", "zipfile", "-c"]).arg(&archive).args(&self.deployed);
        run(&mut python)?;
        Ok(fs::metadata(archive)?.len())
    }
}

fn size_of(path: &Path) -> Result<u64> {
    if !path.is_dir() {
        return Ok(fs::metadata(path)?.len());
    }
    let entries = fs::read_dir(path)?.map(|entry| size_of(&entry?.path()));
    entries.sum()
}

/// The functions of this project, from a folder of binaries or built in release mode.
pub(crate) fn functions(built: Option<&Path>) -> Result<Vec<Subject>> {
    let names = ["init-auth", "validate-otp", "manage-devices"];
    let binaries: BTreeMap<String, PathBuf> = if let Some(folder) = built {
        names.map(|name| (name.to_owned(), folder.join(name))).into()
    } else {
        // Apart, since the third asks for more of `shared`, and each is to be what is deployed.
        let mut binaries = cargo_build(&["init-auth", "validate-otp", "floors"])?;
        binaries.extend(cargo_build(&["manage-devices"])?);
        binaries
    };
    let subject = |kind, task, name: &str| {
        let binary = binaries
            .get(name)
            .with_context(|| format!("cargo did not build {name}"))?;
        let binary = binary
            .canonicalize()
            .with_context(|| format!("{} is missing: run tests/deploy/run first", binary.display()))?;
        anyhow::Ok(native(kind, task, binary))
    };
    let mut subjects = vec![
        subject(Kind::Rust, Task::InitAuth, "init-auth")?,
        subject(Kind::Rust, Task::ValidateOtp, "validate-otp")?,
        subject(Kind::Rust, Task::Register, "manage-devices")?,
    ];
    if built.is_none() {
        subjects.push(subject(Kind::Sealed, Task::ValidateOtp, "validate-otp")?);
        subjects.push(subject(Kind::Sealed, Task::Register, "manage-devices")?);
        subjects.push(subject(Kind::TwoCalls, Task::ValidateOtp, "floor-two-calls")?);
        subjects.push(subject(Kind::ConstantAnswer, Task::Constant, "floor-constant")?);
    }
    Ok(subjects)
}

fn native(kind: Kind, task: Task, binary: PathBuf) -> Subject {
    Subject {
        kind,
        task,
        launch: Launch {
            command: vec![binary.clone().into()],
            folder: "/".into(),
        },
        deployed: vec![binary],
    }
}

/// Builds packages as they are deployed; returns their binaries by name.
pub(crate) fn cargo_build(packages: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    let built = cargo
        .current_dir(WORKSPACE)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(built.status.success(), "cargo build: {}", built.status);
    let messages = String::from_utf8(built.stdout)?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| executable(&message)).collect())
}

fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let name = message.pointer("/target/name")?.as_str()?;
    Some((name.to_owned(), message.get("executable")?.as_str()?.into()))
}

/// The functions in other languages, installed below the target folder.
pub(crate) fn peers() -> Result<Vec<Subject>> {
    let target = target_folder()?.join("bench");
    Ok(python(&target)?.into_iter().chain(node(&target)?).collect())
}

fn python(target: &Path) -> Result<[Subject; 2]> {
    let (source, folder, environment) = (
        Path::new(PEERS).join("python"),
        target.join("python-app"),
        target.join("python"),
    );
    let python = environment.join("bin/python");
    if changed(&source.join("requirements.txt"), &environment.join("requirements.txt"))? {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment))?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ];
        run(Command::new(&python).args(pip).arg(source.join("requirements.txt")))?;
        fs::copy(source.join("requirements.txt"), environment.join("requirements.txt"))?;
    }
    copy_all(&source, &folder, "py")?;
    // As a careful engineer ships it: Lambda cannot keep what it compiles.
    run(Command::new(&python).args(["-m", "compileall", "-q"]).arg(&folder))?;
    let mut deployed = vec![folder.clone()];
    for entry in fs::read_dir(environment.join("lib"))?.flatten() {
        let packages = fs::read_dir(entry.path().join("site-packages"))?.flatten();
        // The runtime and the installer are not part of a function.
        let own = [
            "awslambdaric",
            "pip",
            "setuptools",
            "pkg_resources",
            "_distutils_hack",
            "runtime_client",
            "snapshot",
            "simplejson",
        ];
        let of_the_function = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            !own.iter().any(|own| name.starts_with(own)) && name != "__pycache__"
        };
        deployed.extend(packages.map(|package| package.path()).filter(of_the_function));
    }
    let subject = |task, handler: &str| Subject {
        kind: Kind::Python,
        task,
        launch: Launch {
            command: [
                python.as_os_str().to_owned(),
                "-m".into(),
                "awslambdaric".into(),
                handler.into(),
            ]
            .into(),
            folder: folder.clone(),
        },
        deployed: deployed.clone(),
    };
    Ok([
        subject(Task::InitAuth, "init_auth.handler"),
        subject(Task::ValidateOtp, "validate_otp.handler"),
    ])
}

fn node(target: &Path) -> Result<[Subject; 2]> {
    let (source, folder) = (Path::new(PEERS).join("node"), target.join("node"));
    fs::create_dir_all(&folder)?;
    let installed = folder.join("node_modules/.installed-package-lock.json");
    if changed(&source.join("package-lock.json"), &installed)? {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name))?;
        }
        // `aws-lambda-ric` builds its client of the runtime API, which takes some minutes.
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder))?;
        fs::copy(source.join("package-lock.json"), installed)?;
    }
    fs::copy(source.join("package.json"), folder.join("package.json"))?;
    copy_all(&source, &folder, "mjs")?;
    run(Command::new("npm")
        .args(["run", "--silent", "build"])
        .current_dir(&folder))?;
    let node = which("node")?;
    let subject = |task, name: &str| Subject {
        kind: Kind::Node,
        task,
        launch: Launch {
            command: [
                node.clone(),
                folder.join("node_modules/aws-lambda-ric/bin/index.mjs").into(),
                format!("{name}.handler").into(),
            ]
            .into(),
            folder: folder.join("dist"),
        },
        deployed: vec![folder.join(format!("dist/{name}.mjs"))],
    };
    Ok([
        subject(Task::InitAuth, "init-auth"),
        subject(Task::ValidateOtp, "validate-otp"),
    ])
}

fn copy_all(from: &Path, to: &Path, extension: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let (true, Some(name)) = (
            path.extension().is_some_and(|found| found == extension),
            path.file_name(),
        ) {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

fn changed(wanted: &Path, installed: &Path) -> Result<bool> {
    Ok(fs::read(installed).ok() != Some(fs::read(wanted)?))
}

fn target_folder() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(WORKSPACE);
    let metadata: Value = serde_json::from_slice(&cargo.output().context("cargo")?.stdout)?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    Ok(folder.context("cargo metadata names no target folder")?.into())
}

/// The path of a program.
pub(crate) fn which(program: &str) -> Result<OsString> {
    let found = iter::once("/usr/local/bin").chain(["/usr/bin", "/bin"]);
    let found = found
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists());
    let found = found.with_context(|| format!("{program} is missing; on Debian: {PACKAGES}"))?;
    Ok(found.into())
}

/// Runs a command whose output matters only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} cannot be started; on Debian: {PACKAGES}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} failed ({}); it may miss one of these: {PACKAGES}\n{text}",
            output.status
        );
    }
    Ok(())
}
