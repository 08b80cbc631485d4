//! The program with a running local stack: arguments, files, standard streams, exit codes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use local::usage::LocalFiles;
use local::{Options, Stack};
use mfactl::formats::otpauth;
use shared::clock::Clock as _;
use shared::device::Device;
use shared::names::{DeviceKey, DeviceName, UserName};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::DeviceStore as _;
use tempfile::TempDir;

fn mfactl(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfactl"));
    command.current_dir(folder).env_clear().args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(mfactl(folder, arguments).stdin(Stdio::null()).output()?)
}

fn answer(folder: &Path, arguments: &[&str], input: &str) -> Result<Output> {
    let streams = [(); 2].map(|()| Stdio::piped());
    let [output, notes] = streams;
    let mut program = mfactl(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(notes)
        .spawn()?;
    program.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    Ok(program.wait_with_output()?)
}

/// As `mfactl … | head -0`: the reader is gone before the first line.
fn a_closed_pipe_is_quiet(folder: &Path, arguments: &[&str]) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = mfactl(folder, arguments)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()?;
    let (status, _, notes) = text(&output);
    assert_eq!(status, Some(141), "{arguments:?}: {notes}");
    assert!(
        !notes.contains("pipe") && !notes.contains("mfactl:"),
        "{arguments:?}: {notes}"
    );
    Ok(())
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for arguments in [&["completions", "bash"][..], &["man"]] {
        a_closed_pipe_is_quiet(folder.path(), arguments)?;
    }
    // As `2>&1 | head -0`: the error is all that there is to write.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let status = mfactl(folder.path(), &["device", "list"])
        .stderr(writer)
        .stdout(Stdio::null())
        .status()?;
    assert_eq!(status.code(), Some(2));
    Ok(())
}

#[test]
fn without_credentials_or_region_the_error_says_what_to_set() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for arguments in [
        &["--stack", "mfa", "device", "list"][..],
        &["--stack", "mfa", "client", "list"],
        &["--stack", "mfa", "doctor"],
        &["device", "list", "--devices-table", "Devices"],
        &["client", "list", "--user-pool", "eu-central-1_a"],
    ] {
        for (region, expected) in [("", "AWS_REGION"), ("eu-central-1", "AWS_ACCESS_KEY_ID")] {
            let mut program = mfactl(folder.path(), arguments);
            program
                .env("HOME", folder.path())
                .env("AWS_EC2_METADATA_DISABLED", "true");
            if !region.is_empty() {
                program.env("AWS_REGION", region);
            }
            let (status, _, notes) = text(&program.stdin(Stdio::null()).output()?);
            assert_eq!(status, Some(2), "{arguments:?}: {notes}");
            for part in [expected, "AWS_PROFILE", "--local"] {
                assert!(notes.contains(part), "{arguments:?}: {notes}");
            }
            assert!(!notes.contains("IMDS") && notes.lines().count() == 1, "{notes}");
        }
    }
    Ok(())
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_registered_on_the_local_stack() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let stack = Stack::start(Options::default()).await?;
    // The program uses the stack's clock, which may have been moved.
    stack.advance(Duration::from_hours(30))?;
    let files = LocalFiles::write(&folder.join(".local"), &stack)?;
    let names = ["--user", "me & you+tag@example.com", "--device", "my phone"];
    let device = |command: &str, rest: &[&str]| {
        run(
            folder,
            &[&["--local", "device", command], names.as_slice(), rest].concat(),
        )
    };

    let arguments = [
        &["--local", "device", "register", "--png", "code.png"],
        names.as_slice(),
    ]
    .concat();
    let mut program = mfactl(folder, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(program.stdout.take().context("no output")?);
    let mut uri = String::new();
    while !uri.starts_with("otpauth://") {
        uri.clear();
        ensure!(output.read_line(&mut uri)? > 0, "no URI");
    }
    let seed = otpauth::parse(uri.trim())?.seed;
    let step = Step::at(stack.clock().now(), seed.parameters().period);
    let mut answers = program.stdin.take().context("no input")?;
    writeln!(answers, "{}", seed.code(step).reveal())?;
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    drop(answers);
    let (status, _, notes) = text(&program.wait_with_output()?);
    assert_eq!(status, Some(0), "{notes}");
    assert!(rest.contains("is active"), "{rest}");
    let mode = std::fs::metadata(folder.join("code.png"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (status, shown, _) = text(&device("show", &[])?);
    assert!(status == Some(0) && shown.contains("ACTIVE"), "{shown}");
    let (status, shown, _) = text(&device("check", &["--json"])?);
    let checked: serde_json::Value = serde_json::from_str(&shown)?;
    assert_eq!(
        (status, checked["problems"].as_array().map(Vec::len)),
        (Some(0), Some(0))
    );
    let seed_text = seed.to_base32();
    std::fs::write(folder.join("seed"), seed_text.as_bytes())?;
    let (status, shown, _) = text(&device("check", &["--seed-file", "seed"])?);
    assert!(
        status == Some(0) && shown.contains("the same as in the file"),
        "{shown}"
    );
    let (status, _, notes) = text(&device("register", &[])?);
    assert!(status == Some(1) && notes.contains("--replace"), "{notes}");
    let (status, _, notes) = text(&device("remove", &[])?);
    assert!(status == Some(1) && notes.contains("--yes"), "{notes}");
    let (status, _, notes) = text(&device("remove", &["--yes", "--now"])?);
    assert_eq!(status, Some(0), "{notes}");
    let (status, output, _) = text(&device("remove", &["--yes"])?);
    assert!(status == Some(0) && output.contains("There is no device"), "{output}");

    std::fs::write(
        folder.join("seeds.csv"),
        "user,device,seed\nalice,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n",
    )?;
    for expected in ["1 imported", "1 already imported"] {
        let (status, output, _) = text(&run(folder, &["--local", "device", "import", "seeds.csv"])?);
        assert!(status == Some(0) && output.contains(expected), "{output}");
    }
    let (status, output, _) = text(&run(folder, &["--local", "device", "list", "--user", "alice"])?);
    assert!(status == Some(0) && output.contains("1 device"), "{output}");

    files.remove()?;
    stack.shutdown().await;
    Ok(())
}

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const ALICE: [&str; 4] = ["--user", "alice", "--device", "phone"];

/// A folder with a running local stack that has a device of a user.
async fn stack_with_device_of(user: &str) -> Result<(TempDir, Stack, LocalFiles)> {
    let folder = tempfile::tempdir()?;
    let stack = Stack::start(Options::default()).await?;
    let files = LocalFiles::write(&folder.path().join(".local"), &stack)?;
    std::fs::write(
        folder.path().join("seeds.csv"),
        format!("user,device,seed\n{user},phone,{SEED}\n"),
    )?;
    let imported = run(folder.path(), &["--local", "device", "import", "seeds.csv"])?;
    ensure!(imported.status.success(), "{imported:?}");
    Ok((folder, stack, files))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_for_codes_and_a_restored_table_is_made_safe() -> Result<()> {
    let (folder, stack, files) = stack_with_device_of("alice").await?;
    let folder = folder.path();
    let seed = Seed::from_base32(SEED, OtpParameters::default())?;
    let step = Step::at(stack.clock().now(), seed.parameters().period);
    let codes = [Step(step.0 + 20), Step(step.0 + 21)].map(|step| seed.code(step).reveal().to_owned());
    let arguments = [&["--local", "device", "check", "--codes"], ALICE.as_slice()].concat();
    let (status, output, notes) = text(&answer(folder, &arguments, &codes.join("\n"))?);
    // The clock may go on.
    let drift = ["21 steps (630 s) ahead", "20 steps (600 s) ahead"];
    assert!(
        status == Some(1) && drift.iter().any(|drift| output.contains(drift)),
        "{output}{notes}"
    );

    let key = DeviceKey {
        owner: stack.demo().key.owner.clone(),
        user: UserName::parse("alice")?,
        device: DeviceName::parse("phone")?,
    };
    let before = stack.devices().get(&key).await?.context("no device")?;
    let (status, _, notes) = text(&run(folder, &["--local", "device", "restored"])?);
    assert!(status == Some(1) && notes.contains("--yes"), "{notes}");
    assert_eq!(stack.devices().get(&key).await?.as_ref(), Some(&before));
    let (status, output, notes) = text(&run(folder, &["--local", "device", "restored", "--yes"])?);
    assert!(
        status == Some(0) && output.contains("AuthLifeSeconds"),
        "{output}{notes}"
    );
    let after = stack.devices().get(&key).await?.context("no device")?;
    assert!(after.version > before.version + (1 << 32));
    let version = before.version;
    assert_eq!(Device { version, ..after }, before);

    // An item without anything but its key, which every other one is moved in spite of.
    let text_of = |value: &str| AttributeValue::S(value.to_owned());
    let put = stack.stores().clients().dynamodb.put_item().table_name("Devices");
    let put = put.item("pk", text_of("shop#bob")).item("sk", text_of("phone"));
    put.send().await?;
    for arguments in [&["device", "restored", "--yes"][..], &["device", "list"]] {
        let (status, _, notes) = text(&run(folder, &[&["--local"], arguments].concat())?);
        assert!(
            status == Some(1) && notes.contains("phone of bob (owner shop) cannot be read"),
            "{notes}"
        );
    }
    let again = stack.devices().get(&key).await?.context("no device")?;
    assert!(again.version > version + (1 << 33));
    files.remove()?;
    stack.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn characters_that_hide_are_shown_and_json_is_exact() -> Result<()> {
    // The first one turns the text after it around.
    let user = "b\u{202e}ob\u{200b}";
    let (folder, stack, files) = stack_with_device_of(user).await?;
    let folder = folder.path();
    for command in [
        "import", "list", "show", "check", "register", "activate", "disable", "remove",
    ] {
        let names = match command {
            "import" => &["seeds.csv"][..],
            "list" => &[],
            _ => &["--user", user, "--device", "phone"],
        };
        let (_, output, notes) = text(&run(folder, &[&["--local", "device", command], names].concat())?);
        let shown = output + &notes;
        assert!(!shown.contains(['\u{202e}', '\u{200b}']), "{command}: {shown}");
        // A command to be copied has it in octal.
        assert!(
            command == "check" || shown.contains("b\\u{202e}ob\\u{200b}") || shown.contains("b\\342\\200\\256ob"),
            "{command}: {shown}"
        );
    }
    for arguments in [&["device", "export"][..], &["device", "list", "--json"]] {
        let (_, exact, _) = text(&run(folder, &[&["--local"], arguments].concat())?);
        assert!(exact.contains(user), "{exact}");
    }
    files.remove()?;
    stack.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_quiet_when_its_reader_is_gone() -> Result<()> {
    let (folder, stack, files) = stack_with_device_of("alice").await?;
    for (arguments, names) in [
        (&["device", "list"][..], &[][..]),
        (&["device", "list", "--json"], &[]),
        (&["device", "export"], &[]),
        (&["device", "restored", "--yes"], &[]),
        (&["device", "import", "seeds.csv"], &[]),
        (&["device", "show"], &ALICE),
        (&["device", "check"], &ALICE),
        (&["device", "register"], &["--user", "bob", "--device", "phone"]),
        (&["device", "disable"], &ALICE),
        (&["device", "remove", "--yes"], &ALICE),
        (&["client", "list"], &[]),
        (&["doctor"], &[]),
    ] {
        a_closed_pipe_is_quiet(folder.path(), &[&["--local"], arguments, names].concat())?;
    }
    files.remove()?;
    stack.shutdown().await;
    Ok(())
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (arguments, expected) in [
        (vec!["device", "frobnicate"], "frobnicate"),
        (vec!["device", "list"], "--devices-table"),
        (vec!["doctor"], "--stack"),
        (vec!["client", "list"], "--user-pool"),
        (vec!["--local", "doctor", "--stack", "mfa"], "not both"),
        (vec!["--local", "device", "list"], "cargo run -p local"),
        (
            vec![
                "device",
                "show",
                "--devices-table",
                "Devices",
                "--policy",
                "lax",
                "--client",
                "a",
                "--user",
                "a",
                "--device",
                "b",
            ],
            "GUESS_POLICY must be standard, strict or custom",
        ),
        (
            vec![
                "device",
                "unlock",
                "--devices-table",
                "D",
                "--client",
                "a",
                "--user",
                "a",
                "--device",
                "b",
            ],
            "GUESS_POLICY is not set",
        ),
        (
            vec!["device", "show", "--devices-table", "D", "--user", "a", "--device", "b"],
            "--client",
        ),
        (
            vec!["device", "register", "--user", "a", "--device", " b"],
            "white space",
        ),
        (
            vec!["device", "register", "--user", "a", "--device", "b", "--digits", "7"],
            "6 or 8",
        ),
        (
            vec!["device", "show", "--user", "a\u{202e} ", "--device", "b"],
            "a\\u{202e} ",
        ),
    ] {
        let (status, output, notes) = text(&run(folder.path(), &arguments)?);
        assert_eq!(status, Some(2), "{arguments:?}: {output}{notes}");
        assert!(notes.contains(expected), "{arguments:?}: {notes}");
    }
    let (status, output, _) = text(&run(folder.path(), &["completions", "bash"])?);
    assert!(status == Some(0) && output.contains("mfactl"));
    let (status, output, _) = text(&run(folder.path(), &["man"])?);
    assert!(status == Some(0) && output.contains(".TH mfactl"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_with_0_only_if_every_row_can_sign_in() -> Result<()> {
    const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let stack = Stack::start(Options::default()).await?;
    let files = LocalFiles::write(&folder.join(".local"), &stack)?;
    let names = ["--user", "alice", "--device", "phone"];
    let register = ["--local", "device", "register", "--no-activate"];
    let (status, _, notes) = text(&run(folder, &[register.as_slice(), &names].concat())?);
    assert_eq!(status, Some(0), "{notes}");
    std::fs::write(folder.join("users.csv"), "serial,user\n77,carol\n")?;
    let key = "<KeyPackage><DeviceInfo><SerialNo>77</SerialNo></DeviceInfo>\
               <Key Algorithm='urn:ietf:params:xml:ns:keyprov:pskc:totp'><AlgorithmParameters><Suite hashalgo='sha256'/>\
               <ResponseFormat Encoding='DECIMAL' Length='6'/></AlgorithmParameters><Data><Secret>\
               <PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret></Data></Key></KeyPackage>";
    let container = |inner: &str| {
        format!("<KeyContainer Version='1.0' xmlns='urn:ietf:params:xml:ns:keyprov:pskc'>{inner}</KeyContainer>")
    };
    let uri = |issuer: &str, more: &str| format!("otpauth://totp/{issuer}:bob?secret={SEED}&issuer={issuer}{more}\n");
    let of_alice = |seed: &str| format!("user,device,seed\nalice,phone,{seed}\n");
    let (none, users, by_issuer) = (
        [].as_slice(),
        ["--users", "users.csv"].as_slice(),
        ["--device-from", "issuer"].as_slice(),
    );
    for (file, options, expected, said) in [
        (
            of_alice(SEED),
            none,
            0,
            "imported over a registration that was not finished",
        ),
        (of_alice(SEED), none, 0, "1 already imported"),
        (
            of_alice("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR"),
            none,
            1,
            "mfactl device remove",
        ),
        ("user,device,seed\n".to_owned(), none, 1, "no rows"),
        (container(""), none, 1, "no KeyPackage"),
        ("otpauth-migration://offline?data=\n".to_owned(), none, 1, "no entries"),
        (uri("ACME", "&amp;digits=8"), by_issuer, 1, "amp;digits"),
        (
            uri("ACME", "") + &uri("Other", ""),
            &["--device", "app"],
            1,
            "--device-from issuer",
        ),
        (uri("ACME", "") + &uri("Other", ""), by_issuer, 0, "2 imported"),
        (container(key), none, 1, "--users"),
        (container(key), users, 0, "carol / 77: imported"),
    ] {
        std::fs::write(folder.join("import"), &file)?;
        let arguments = [["--local", "device", "import", "import"].as_slice(), options].concat();
        let (status, output, notes) = text(&run(folder, &arguments)?);
        assert!(
            status == Some(expected) && (output.contains(said) || notes.contains(said)),
            "{file}{output}{notes}"
        );
        assert!(!output.contains(SEED) && !notes.contains(SEED), "{file}");
    }
    for (names, said) in [
        (names, "SHA1, 6 digits"),
        (["--user", "carol", "--device", "77"], "SHA256, 6 digits"),
    ] {
        let show = ["--local", "device", "show"];
        let (status, output, _) = text(&run(folder, &[show.as_slice(), &names].concat())?);
        assert!(
            status == Some(0) && output.contains(said) && output.contains("one code is enough"),
            "{output}"
        );
    }
    files.remove()?;
    stack.shutdown().await;
    Ok(())
}
