//! The sample events: every file is in the table of `events/README.md`, and gets the answer that stands there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use acceptance::{Outcome, World};
use anyhow::{Context as _, Result};
use local::Function;

struct Row {
    event: String,
    function: Function,
    status: u16,
    code: Option<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events")
}

fn table() -> Result<Vec<Row>> {
    let text = fs::read_to_string(folder().join("README.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row
            .split(" | ")
            .map(|cell| cell.trim_matches(|c| matches!(c, '`' | '|' | ' ')))
            .collect();
        let [event, function, _state, answer] = cells[..] else {
            anyhow::bail!("not four cells: {row}")
        };
        let (status, code) = answer
            .split_once(" `")
            .map_or((answer, None), |(status, code)| (status, Some(code)));
        let status = status.split(',').next().unwrap_or_default();
        Ok(Row {
            event: event.to_owned(),
            function: match function {
                "init-auth" => Function::InitAuth,
                "validate-otp" => Function::ValidateOtp,
                other => anyhow::bail!("no function: {other}"),
            },
            status: status.parse().with_context(|| format!("no status: {answer}"))?,
            code: code.filter(|_| !status.starts_with('2')).map(str::to_owned),
        })
    })
    .collect()
}

#[test]
fn every_event_is_in_the_table() -> Outcome {
    let listed: BTreeSet<String> = table()?.into_iter().map(|row| row.event).collect();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    assert_eq!(files, listed);
    Ok(())
}

#[tokio::test]
async fn every_event_gets_its_answer() -> Outcome {
    let world = World::new().await?;
    for row in table()? {
        let event = fs::read_to_string(folder().join(&row.event))?;
        let (status, body) = world.invoke(row.function, &event).await?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        assert_eq!(status, row.status, "{}: {body}", row.event);
        assert_eq!(body["code"].as_str(), row.code.as_deref(), "{}", row.event);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_event_with_a_right_code_is_made_for_the_running_stack() -> Outcome {
    // The clock of this stack stands still, so the code that is asked for is the code that is sent.
    let world = World::new().await?;
    for (pair, status) in [(false, 200), (true, 409)] {
        let event = local::sample_event::validate_otp(world.stack.origin(), None, pair).await?;
        assert_eq!(world.invoke(Function::ValidateOtp, &event).await?.0, status);
    }
    world.end().await;
    Ok(())
}
