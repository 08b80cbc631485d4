//! Prints how many nanoseconds it takes to open a sealed seed: the median of many.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use shared::aws::sealing::KeyRing;
use shared::names::{DeviceKey, DeviceName, Owner, SealedId, UserName};
use shared::otp::{OtpParameters, Seed};

const TIMES: usize = 20_001;

fn main() -> Result<(), Box<dyn Error>> {
    let ring = KeyRing::parse(&format!(
        r#"{{"format":1,"previous":[],"current":"{}"}}"#,
        "k".repeat(64)
    ))?;
    let device = DeviceKey {
        owner: Owner::parse("owner")?,
        user: UserName::parse("user")?,
        device: DeviceName::parse("mydevice")?,
    };
    let id = SealedId::from_random_bytes([1; 16]);
    let seed = Seed::from_bytes(&[1; 20], OtpParameters::default())?;
    let sealed = ring.seal(&device, id, &seed)?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let started = Instant::now();
        ring.open(&device, id, &sealed)?;
        times.push(started.elapsed().as_nanos());
    }
    times.sort_unstable();
    let median = times.get(TIMES / 2).ok_or("no times")?;
    Ok(writeln!(std::io::stdout(), "{median}")?)
}
