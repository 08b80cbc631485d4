//! The sample events get the answers that `events/README.md` documents.

use acceptance::{Outcome, SampleEvent, World};
use local::Function;

#[tokio::test]
async fn every_sample_event_gets_the_answer_in_the_table() -> Outcome {
    let world = World::new().await?;
    for sample in SampleEvent::table()? {
        let (status, body) = world.invoke(sample.function, &sample.read()?).await?;
        // A device that was removed is answered without a body.
        let body: serde_json::Value = if status == 204 && body.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_str(&body)?
        };
        assert_eq!(status, sample.status, "{}: {body}", sample.file);
        assert_eq!(body["code"].as_str(), sample.code.as_deref(), "{}", sample.file);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn sample_events_can_be_made_with_a_right_code_for_a_running_stack() -> Outcome {
    // The clock of this stack stands still, so the code stays right until it is sent.
    let world = World::new().await?;
    for (pair, status) in [(false, 200), (true, 409)] {
        let event = local::sample_event::validate_otp(world.stack.origin(), None, pair).await?;
        assert_eq!(world.invoke(Function::ValidateOtp, &event).await?.0, status);
    }
    let event = local::sample_event::manage_devices(world.stack.origin()).await?;
    let (status, body) = world.invoke(Function::ManageDevices, &event).await?;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"status":"ACTIVE","message":"waiting"}"#)
    );
    world.end().await;
    Ok(())
}
