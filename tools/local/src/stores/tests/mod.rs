use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;

use super::*;

mod secret_list;

fn clients(stores: &Stores) -> Clients {
    stores.clients()
}

#[tokio::test]
async fn tables_and_secrets_are_kept_across_restarts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(LocalClock::running());
    let version = {
        let stores = Stores::start(Some(DataDir::open(folder.path())?), &clock).await?;
        let Clients {
            dynamodb,
            secrets_manager,
            ..
        } = clients(&stores);
        let created = secrets_manager
            .create_secret()
            .name("mfa/seed/00")
            .secret_string("a seed")
            .send()
            .await?;
        secrets_manager
            .create_secret()
            .name("mfa/seed/01")
            .secret_string("another")
            .send()
            .await?;
        secrets_manager.delete_secret().secret_id("mfa/seed/01").send().await?;
        let key = aws_sdk_dynamodb::types::AttributeValue::S("an auth".to_owned());
        dynamodb.put_item().table_name("Auths").item("pk", key).send().await?;
        stores.shutdown().await;
        created.version_id.context("no version")?
    };

    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }

    let stores = Stores::start(Some(DataDir::open(folder.path())?), &clock).await?;
    let Clients {
        dynamodb,
        secrets_manager,
        ..
    } = clients(&stores);
    let found = secrets_manager
        .get_secret_value()
        .secret_id("mfa/seed/00")
        .version_id(version)
        .send()
        .await?;
    assert_eq!(found.secret_string.as_deref(), Some("a seed"));
    let gone = secrets_manager.get_secret_value().secret_id("mfa/seed/01").send().await;
    assert!(gone.is_err_and(|error| error.into_service_error().is_invalid_request_exception()));
    let key = aws_sdk_dynamodb::types::AttributeValue::S("an auth".to_owned());
    assert!(
        dynamodb
            .get_item()
            .table_name("Auths")
            .key("pk", key)
            .send()
            .await?
            .item
            .is_some()
    );
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_of_secrets_is_not_overwritten() -> Result<()> {
    for file in ["secrets.json", "secret-00.json"] {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::open(folder.path())?;
        data_dir.write(file, b"{")?;
        let error = Stores::start(Some(Arc::clone(&data_dir)), &Arc::new(LocalClock::running()))
            .await
            .err();
        assert!(error.is_some_and(|error| error.to_string().contains("damaged")));
        assert_eq!(data_dir.read(file)?.as_deref().map(String::as_str), Some("{"));
    }
    Ok(())
}

#[tokio::test]
async fn secrets_of_an_earlier_version_get_a_file_each_and_a_removed_one_leaves_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = |name: &str| {
        let (at, stages) = ("2027-01-15T08:00:00+00:00", ["AWSCURRENT"]);
        let version = serde_json::json!({
            "version_id": "1", "secret_string": "a seed", "created_date": at, "version_stages": stages,
        });
        let arn = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-a1b2c3");
        serde_json::json!({
            "name": name, "arn": arn, "description": "", "created_date": at, "last_changed_date": at,
            "versions": { "1": version }, "current_version_id": "1",
        })
    };
    let earlier = serde_json::json!({ "secrets": { "a": secret("a"), "b": secret("b") } });
    DataDir::open(folder.path())?.write("secrets.json", earlier.to_string().as_bytes())?;
    let data_dir = DataDir::open(folder.path())?;
    let stores = Stores::start(Some(Arc::clone(&data_dir)), &Arc::new(LocalClock::running())).await?;
    let client = clients(&stores).secrets_manager;
    // One more is the key ring.
    let files = data_dir.names_with("secret-")?.len();
    assert_eq!((files, data_dir.read("secrets.json")?), (3, None));
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:a-a1b2c3";
    let found = client.get_secret_value().secret_id(arn).send().await?;
    assert_eq!((found.name(), found.secret_string()), (Some("a"), Some("a seed")));
    let remove = client
        .delete_secret()
        .secret_id(arn)
        .force_delete_without_recovery(true);
    remove.send().await?;
    assert_eq!(data_dir.names_with("secret-")?.len(), 2);
    let listed = client.list_secrets().send().await?;
    let names: Vec<_> = listed.secret_list().iter().filter_map(|secret| secret.name()).collect();
    assert!(names.contains(&"b") && !names.contains(&"a"), "{names:?}");
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_sweep_deletes_by_the_stacks_clock() -> Result<()> {
    let clock = Arc::new(LocalClock::still(shared::clock::Timestamp::from_secs(1_800_000_000)));
    let stores = Stores::start(None, &clock).await?;
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let expiry = aws_sdk_dynamodb::types::AttributeValue::N("1800000300".to_owned());
    let put = clients(&stores)
        .dynamodb
        .put_item()
        .table_name("Auths")
        .item("pk", text("a"))
        .item("expiresAt", expiry);
    put.send().await?;
    assert_eq!(stores.sweep_expired()?, 0);
    clock.advance_seconds(301)?;
    assert_eq!(stores.sweep_expired()?, 1);
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn nothing_listens_after_a_shutdown() -> Result<()> {
    let stores = Stores::start(None, &Arc::new(LocalClock::running())).await?;
    stores.shutdown().await;
    for url in [stores.dynamodb_url(), stores.secrets_manager_url()] {
        let address = url.trim_start_matches("http://");
        assert!(std::net::TcpStream::connect(address).is_err(), "{address}");
    }
    stores.shutdown().await;
    Ok(())
}
