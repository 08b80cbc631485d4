//! The folder of the sample events and the table in its README.

use std::collections::BTreeSet;
use std::fs;

use acceptance::{Outcome, SampleEvent};

#[test]
fn every_sample_event_is_in_the_table() -> Outcome {
    let listed: BTreeSet<String> = SampleEvent::table()?.into_iter().map(|sample| sample.file).collect();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(SampleEvent::folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    assert_eq!(files, listed);
    Ok(())
}
