//! Clients on the local stack: the token endpoint and both functions see what the program does in the user pool.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use acceptance::{Answer, Fault, Outcome, Rule, StoreProxy, World, WorldOptions};
use anyhow::{Context as _, Result};
use local::DataDir;
use local::usage::LocalFiles;
use mfactl::aws::clients::CognitoClients;
use mfactl::ports::clients::{ClientError, ClientName, ClientRegistry as _, Scope};
use reqwest::Method;
use serde_json::{Value, json};
use shared::names::ClientId;
use shared::otp::OtpParameters;

/// Runs a program in a folder, with only PATH in its environment.
async fn run(folder: &Path, command: &mut Command) -> Result<Output> {
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let program = command.spawn()?;
    // The stack has its own threads, but the test's HTTP client does not.
    Ok(tokio::task::spawn_blocking(move || program.wait_with_output()).await??)
}

async fn mfactl(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfactl"));
    let output = run(folder, command.args(["--local", "client"]).args(arguments)).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

async fn succeeds(folder: &Path, arguments: &[&str]) -> Result<String> {
    let (status, output, notes) = mfactl(folder, arguments).await?;
    anyhow::ensure!(status == Some(0), "{arguments:?}: {output}{notes}");
    Ok(output)
}

async fn ask_for_token(world: &World, id: &str, secret: &str) -> Result<Answer> {
    let form = [("grant_type", "client_credentials"), ("scope", "mfa/authenticate")];
    let request = world.at(Method::POST, &world.stack.token_url());
    world.send(request.basic_auth(id, Some(secret)).form(&form)).await
}

async fn token(world: &World, id: &str, secret: &str) -> Result<String> {
    let answer = ask_for_token(world, id, secret).await?;
    let token = answer.member("access_token");
    Ok(token.as_str().with_context(|| answer.text.clone())?.to_owned())
}

async fn refused(world: &World, id: &str, secret: &str) -> Outcome {
    let answer = ask_for_token(world, id, secret).await?;
    let same = answer.status == 400 && answer.member("error") == "invalid_client";
    anyhow::ensure!(same, "expected invalid_client, got {}", answer.text);
    Ok(())
}

/// Steps 2 and 3 with a device of the client.
async fn authenticate(world: &World, token: &str, device: &local::Registered, ahead: i64) -> Outcome {
    let names = json!({ "userName": "alice", "deviceName": "phone", "deviceType": "TOTP" });
    let started = world.init_auth(token, &names).await?;
    started.success(201)?;
    let auth_id = started.member("authId");
    let body = json!({ "otp": world.code_of(device, ahead) });
    let path = auth_id.as_str().context("no authId")?;
    world.validate_otp(token, path, &body).await?.success(200)
}

fn id_in(output: &str) -> Result<String> {
    let line = output.lines().find_map(|line| line.strip_prefix("client id"));
    Ok(line.context("no client id")?.trim().to_owned())
}

#[tokio::test]
async fn a_new_client_authenticates_users_across_a_rotation_until_it_is_removed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let world = World::new().await?;
    let _files = LocalFiles::write(&folder.join(".local"), &world.stack)?;
    let output = succeeds(folder, &["add", "My shop", "--secret-file", "first secret"]).await?;
    let id = id_in(&output)?;
    let first = std::fs::read_to_string(folder.join("first secret"))?;
    let mode = std::fs::metadata(folder.join("first secret"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        output.contains(&world.stack.token_url()) && !output.contains(&first),
        "{output}"
    );

    let key = local::device_key(&ClientId::parse(&id)?, "alice", "phone")?;
    let device = world
        .stack
        .register_device(&key.owner, "alice", "phone", OtpParameters::default())
        .await?;
    let of_first = token(&world, &id, &first).await?;
    authenticate(&world, &of_first, &device, 0).await?;

    world.advance(std::time::Duration::from_mins(2))?;
    succeeds(folder, &["rotate", "My shop", "--secret-file", "second secret"]).await?;
    let second = std::fs::read_to_string(folder.join("second secret"))?;
    let of_second = token(&world, &id, &second).await?;
    token(&world, &id, &first).await?;
    authenticate(&world, &of_second, &device, 0).await?;
    let (status, _, notes) = mfactl(folder, &["rotate", &id, "--show-secret"]).await?;
    assert!(status == Some(1) && notes.contains("--finish"), "{notes}");
    let (status, _, notes) = mfactl(folder, &["rotate", &id, "--finish"]).await?;
    assert!(status == Some(1) && notes.contains("--yes"), "{notes}");
    succeeds(folder, &["rotate", &id, "--finish", "--yes"]).await?;
    refused(&world, &id, &first).await?;
    world.advance(std::time::Duration::from_mins(2))?;
    authenticate(&world, &token(&world, &id, &second).await?, &device, 0).await?;

    let (status, _, notes) = mfactl(folder, &["remove", "My shop", "--yes"]).await?;
    assert!(status == Some(1) && notes.contains("--with-devices-left"), "{notes}");
    token(&world, &id, &second).await?;
    world.stack.remove_device(&key).await?;
    succeeds(folder, &["remove", "My shop", "--yes"]).await?;
    refused(&world, &id, &second).await?;
    succeeds(folder, &["remove", "My shop", "--yes"]).await?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_printed_command_gets_a_token_and_does_not_contain_the_secret() -> Outcome {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let world = World::new().await?;
    let _files = LocalFiles::write(&folder.join(".local"), &world.stack)?;
    let output = succeeds(folder, &["add", "shop", "--secret-file", "it's a $ecret"]).await?;
    let secret = std::fs::read_to_string(folder.join("it's a $ecret"))?;
    let command = output
        .lines()
        .find(|line| line.contains("| curl"))
        .context("no command")?;
    assert!(!command.contains(&secret));
    // Without curl there is nothing to try.
    let output = run(folder, Command::new("sh").args(["-c", "command -v curl"])).await?;
    if output.status.success() {
        // Nothing listens there: what is on this machine needs no proxy.
        let script = format!("export http_proxy=http://127.0.0.1:9; {command}");
        let output = run(folder, Command::new("sh").args(["-c", &script])).await?;
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        assert!(answer["access_token"].is_string());
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_clients_of_a_pool_are_listed_as_a_table_and_as_json() -> Outcome {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let world = World::new().await?;
    let _files = LocalFiles::write(&folder.join(".local"), &world.stack)?;
    let added = succeeds(folder, &["add", "shop", "--show-secret"]).await?;
    let all: Value = serde_json::from_str(&succeeds(folder, &["list", "--json"]).await?)?;
    let names: Vec<&str> = all
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["clientName"].as_str())
        .collect();
    assert_eq!(names, ["first", "second", "shop"]);
    assert_eq!(all[2]["clientId"], id_in(&added)?);
    assert_eq!(all[2]["createdAt"], "2026-11-25T03:00:00Z");
    let table = succeeds(folder, &["list"]).await?;
    assert!(table.starts_with("NAME") && table.contains("3 clients"), "{table}");
    let (status, _, notes) = mfactl(folder, &["add", "shop", "--show-secret"]).await?;
    assert!(
        status == Some(1) && notes.contains("there already is a client shop"),
        "{notes}"
    );
    let (status, _, notes) = mfactl(folder, &["add", "bank", "--show-secret", "--scopes", "mfa/other"]).await?;
    assert!(status == Some(1) && notes.contains("nothing was created"), "{notes}");
    for wrong in [
        &["add", "bank"][..],
        &["rotate", "shop"],
        &["add", "a'b", "--show-secret"],
    ] {
        let (status, ..) = mfactl(folder, wrong).await?;
        assert_eq!(status, Some(2), "{wrong:?}");
    }
    world.end().await;
    Ok(())
}

fn pool(world: &World) -> CognitoClients {
    let clients = world.stack.stores().clients();
    let id = world.stack.user_pool_id().to_owned();
    CognitoClients::new(&clients.config, Some(world.stack.cognito_url()), id, None)
}

#[tokio::test]
async fn the_pool_has_the_pages_and_errors_of_cognito() -> Outcome {
    const MORE: usize = 130;
    let world = World::new().await?;
    let clients = pool(&world);
    let scopes = [Scope::parse("mfa/authenticate").map_err(anyhow::Error::msg)?];
    for number in 0..MORE {
        let name = ClientName::parse(&format!("client {number}")).map_err(anyhow::Error::msg)?;
        clients.create(&name, &scopes).await?;
    }
    let (mut ids, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = clients.page(after.as_deref()).await?;
        sizes.push(page.clients.len());
        ids.extend(page.clients.into_iter().map(|client| client.id.as_str().to_owned()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [60, 60, 12]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), MORE + 2);

    let id = world.client();
    let before = clients.secrets(id).await?;
    assert_eq!(before.len(), 1);
    world.advance(std::time::Duration::from_secs(1))?;
    let added = clients.add_secret(id).await?;
    assert!(matches!(
        clients.add_secret(id).await,
        Err(ClientError::LimitExceeded(_))
    ));
    let unknown = ClientId::parse("unknown")?;
    assert!(matches!(clients.secrets(&unknown).await, Err(ClientError::NotFound(_))));
    assert!(clients.describe(&unknown).await?.is_none());
    clients.remove(&unknown).await?;
    clients.remove_secret(id, "nothing").await?;
    clients.remove_secret(id, &added.id).await?;
    assert_eq!(clients.secrets(id).await?, before);
    let last = before.first().context("no secret")?;
    let error = clients
        .remove_secret(id, &last.id)
        .await
        .err()
        .map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("InvalidParameterException")));
    assert!(clients.remove(id).await.is_err(), "the stack's own clients stay");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_client_is_created_as_the_template_creates_the_first_one() -> Outcome {
    let world = World::new().await?;
    let scopes = [Scope::parse("mfa/authenticate").map_err(anyhow::Error::msg)?];
    let name = ClientName::parse("shop").map_err(anyhow::Error::msg)?;
    let created = pool(&world).create(&name, &scopes).await?;
    let asked = json!({ "UserPoolId": world.stack.user_pool_id(), "ClientId": created.id.as_str() });
    let request = world.at(Method::POST, world.stack.cognito_url());
    let target = "AWSCognitoIdentityProviderService.DescribeUserPoolClient";
    let answer = world.send(request.header("x-amz-target", target).json(&asked)).await?;
    let client = answer.member("UserPoolClient");
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.1");
    for (member, expected) in [
        ("ClientName", json!("shop")),
        ("AllowedOAuthFlowsUserPoolClient", json!(true)),
        ("AllowedOAuthFlows", json!(["client_credentials"])),
        ("AllowedOAuthScopes", json!(["mfa/authenticate"])),
        ("AccessTokenValidity", json!(60)),
        ("TokenValidityUnits", json!({ "AccessToken": "minutes" })),
        ("EnableTokenRevocation", json!(true)),
    ] {
        assert_eq!(client[member], expected, "{member}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_call_that_creates_something_is_sent_once() -> Outcome {
    let world = World::new().await?;
    let proxy = StoreProxy::start(world.stack.cognito_url()).await?;
    let clients = world.stack.stores().clients();
    let id = world.stack.user_pool_id().to_owned();
    let clients = CognitoClients::new(&clients.config, Some(&proxy.url()), id, None);
    let scopes = [Scope::parse("mfa/authenticate").map_err(anyhow::Error::msg)?];
    let name = ClientName::parse("shop").map_err(anyhow::Error::msg)?;
    let creating = ["CreateUserPoolClient", "AddUserPoolClientSecret"];
    for call in creating {
        proxy.set(call, Rule::First(Fault::CloseAfter));
    }
    assert!(clients.create(&name, &scopes).await.is_err());
    assert_eq!(clients.page(None).await?.clients.len(), 3);
    assert!(clients.add_secret(world.client()).await.is_err());
    assert_eq!(clients.secrets(world.client()).await?.len(), 2);
    let calls = proxy.take_calls();
    for call in creating {
        assert!(calls.contains(&(call.to_owned(), 1)), "{calls:?}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn clients_and_their_secrets_survive_a_restart() -> Outcome {
    let folder = tempfile::tempdir()?;
    let data_dir = DataDir::open(folder.path())?;
    let options = || WorldOptions {
        data_dir: Some(std::sync::Arc::clone(&data_dir)),
        ..WorldOptions::default()
    };
    let world = World::with(options()).await?;
    let scopes = [Scope::parse("mfa/authenticate").map_err(anyhow::Error::msg)?];
    let name = ClientName::parse("shop").map_err(anyhow::Error::msg)?;
    let created = pool(&world).create(&name, &scopes).await?;
    let own = world.client().clone();
    world.advance(std::time::Duration::from_secs(1))?;
    let newest = pool(&world).add_secret(&own).await?;
    world.end().await;

    let world = World::with(options()).await?;
    token(&world, created.id.as_str(), &created.secret.context("no secret")?).await?;
    let [first, _] = world.stack.clients();
    assert_eq!(
        first.secret(),
        newest.value.as_str(),
        "the stack describes itself correctly"
    );
    token(&world, own.as_str(), &newest.value).await?;
    pool(&world).remove(&created.id).await?;
    world.end().await;

    let world = World::with(options()).await?;
    assert_eq!(pool(&world).page(None).await?.clients.len(), 2);
    world.end().await;
    Ok(())
}
