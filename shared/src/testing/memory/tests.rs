use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::device::Status;
use crate::names::{DeviceName, NameError, Owner, UserName};
use crate::otp::{OtpParameters, Step};
use crate::testing::contracts::{self, Outcome};

const ALL: [Fault; 7] = [
    Fault::Throttled,
    Fault::Expired,
    Fault::Before,
    Fault::After,
    Fault::LostThenRepeated,
    Fault::Hang,
    Fault::HangAfter,
];

fn key() -> Result<DeviceKey, NameError> {
    Ok(DeviceKey {
        owner: Owner::parse("shop")?,
        user: UserName::parse("alice")?,
        device: DeviceName::parse("phone")?,
    })
}

fn device() -> Result<Device, NameError> {
    Ok(Device {
        last_step: Step(1),
        ..Device::registered(
            7,
            Status::Active,
            SeedRef::new("seed", "version")?,
            OtpParameters::default(),
        )
    })
}

/// What a call came to: its answer, its failure, or nothing ever.
#[derive(Debug, PartialEq)]
enum Came<T> {
    Answer(T),
    Failure,
    Nothing,
}

fn what_comes_of<T>(call: impl Future<Output = Result<T, StoreError>>) -> Came<T> {
    let mut call = pin!(call);
    for _ in 0..20 {
        if let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result.map_or(Came::Failure, Came::Answer);
        }
    }
    Came::Nothing
}

#[tokio::test]
async fn the_key_ring_in_memory_keeps_the_contract() -> Outcome {
    contracts::key_ring_contract(&MemorySeeds::default()).await
}

#[tokio::test]
async fn auths_in_memory_keep_the_contract() -> Outcome {
    contracts::auth_store_contract(&MemoryAuths::default()).await
}

#[tokio::test]
async fn devices_in_memory_keep_the_contract() -> Outcome {
    contracts::device_store_contract(&MemoryDevices::default()).await
}

#[tokio::test]
async fn activations_in_memory_keep_the_contract() -> Outcome {
    contracts::activation_store_contract(&MemoryActivations::default()).await
}

#[tokio::test]
async fn seeds_in_memory_keep_the_contract() -> Outcome {
    contracts::seed_store_contract(&MemorySeeds::default()).await
}

#[test]
fn a_write_that_meets_a_fault_has_the_effect_that_the_fault_says() -> Outcome {
    let (key, held) = (key()?, device()?);
    let new = Device {
        version: 8,
        ..held.clone()
    };
    for fault in ALL {
        let devices = MemoryDevices::default();
        devices.put(&key, &held);
        devices.inject(Op::Replace, fault);
        let came = what_comes_of(devices.clone().replace(&key, &held, &new, None));
        let (expected, stored) = match fault {
            Fault::Before | Fault::Throttled | Fault::Expired => (Came::Failure, &held),
            Fault::After => (Came::Failure, &new),
            Fault::LostThenRepeated => (Came::Answer(Written::No(Some(Box::new(new.clone())))), &new),
            Fault::Hang => (Came::Nothing, &held),
            Fault::HangAfter => (Came::Nothing, &new),
        };
        assert_eq!(
            (came, devices.peek(&key).as_ref()),
            (expected, Some(stored)),
            "{fault:?}"
        );
        assert_eq!((devices.calls(Op::Replace), devices.all_calls()), (1, 1));
    }
    Ok(())
}

#[test]
fn an_auth_and_a_registration_recognise_their_own_repeated_writes() -> Outcome {
    let (auths, devices) = (MemoryAuths::default(), MemoryDevices::default());
    let (key, device) = (key()?, device()?);
    let at = Timestamp::from_secs(1);
    let auth = Auth {
        id: AuthId::from_random_bytes([1; 16]),
        key: key.clone(),
        issued_at: at,
        expires_at: at,
        device: device.clone(),
    };
    auths.inject(Op::Create, Fault::LostThenRepeated);
    assert_eq!(what_comes_of(auths.create(&auth)), Came::Answer(Stored::Yes));
    devices.inject(Op::Register, Fault::LostThenRepeated);
    assert_eq!(
        what_comes_of(devices.register(&key, &device, &Registration::by_operator(at))),
        Came::Answer(Stored::Yes)
    );
    let pending = PendingSeed {
        seed_ref: SeedRef::new("new-seed", "version")?,
        sealed: None,
        until: at,
    };
    devices.inject(Op::SetPendingSeed, Fault::LostThenRepeated);
    assert_eq!(
        what_comes_of(devices.set_pending_seed(&key, &device, &pending)),
        Came::Answer(Written::Yes)
    );
    devices.inject(Op::Remove, Fault::LostThenRepeated);
    // What it was is lost with the first answer.
    assert_eq!(what_comes_of(devices.remove(&key)), Came::Answer(None));
    assert_eq!((auths.count(), devices.count()), (1, 0));
    Ok(())
}

#[test]
fn a_seed_is_created_once_however_often_its_call_is_repeated() -> Outcome {
    let seeds = MemorySeeds::default();
    let seed = Seed::from_bytes(&[1; 20], OtpParameters::default())?;
    seeds.inject(Op::Create, Fault::LostThenRepeated);
    let came = what_comes_of(SeedRegistry::create(&seeds, "seed", &seed));
    assert_eq!(came, Came::Answer(SecretVersion::new("seed", "version-1")?));
    assert_eq!(
        what_comes_of(SeedRegistry::create(&seeds, "seed", &seed)),
        Came::Failure
    );
    what_comes_of(seeds.remove(&SecretVersion::new("seed", "version-1")?));
    assert_eq!(
        what_comes_of(SeedRegistry::create(&seeds, "seed", &seed)),
        Came::Failure
    );
    assert_eq!((seeds.count(), seeds.calls(Op::Create)), (0, 3));
    Ok(())
}

#[test]
fn faults_take_their_turns_and_meet_only_their_own_kind_of_call() -> Outcome {
    let (key, device) = (key()?, device()?);
    let devices = MemoryDevices::default();
    devices.put(&key, &device);
    devices.inject(Op::Get, Fault::Before);
    devices.inject(Op::Get, Fault::Hang);
    assert!(matches!(what_comes_of(devices.remove(&key)), Came::Answer(_)));
    assert_eq!(what_comes_of(devices.get(&key)), Came::Failure);
    assert_eq!(what_comes_of(devices.get(&key)), Came::Nothing);
    assert_eq!(what_comes_of(devices.get(&key)), Came::Answer(None));
    assert_eq!((devices.calls(Op::Get), devices.all_calls()), (3, 4));
    Ok(())
}

#[test]
fn a_call_has_its_effect_some_time_after_it_is_made_and_before_it_is_answered() -> Outcome {
    let (key, held) = (key()?, device()?);
    let new = Device {
        version: 8,
        ..held.clone()
    };
    let devices = MemoryDevices::default();
    devices.put(&key, &held);
    let mut call = pin!(devices.replace(&key, &held, &new, None));
    let mut poll = || call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    assert_eq!(devices.peek(&key).as_ref(), Some(&held));
    assert!(poll().is_pending());
    assert_eq!(devices.peek(&key).as_ref(), Some(&new));
    assert!(matches!(poll(), Poll::Ready(Ok(Written::Yes))));
    Ok(())
}

#[tokio::test]
async fn calls_at_once_interleave() -> Outcome {
    // Both read before either writes: without that, a test of parallel requests would test one after another.
    let (key, device) = (key()?, device()?);
    let devices = MemoryDevices::default();
    devices.put(&key, &device);
    let read_then_write = async || {
        let held = devices.get(&key).await?.unwrap_or_else(|| device.clone());
        devices
            .replace(
                &key,
                &held,
                &Device {
                    version: held.version + 1,
                    ..held.clone()
                },
                None,
            )
            .await
    };
    let (one, other) = tokio::join!(read_then_write(), read_then_write());
    let results = [one?, other?];
    assert_eq!(
        results.iter().filter(|written| **written == Written::Yes).count(),
        1,
        "{results:?}"
    );
    Ok(())
}

#[test]
fn the_dates_of_a_device_are_kept_beside_its_state() -> Outcome {
    let (key, device) = (key()?, device()?);
    let devices = MemoryDevices::default();
    what_comes_of(devices.register(&key, &device, &Registration::by_operator(Timestamp::from_millis(5_999))));
    assert_eq!(devices.created_at(&key), Some(Timestamp::from_secs(5)));
    assert_eq!(devices.last_used_at(&key), None);
    what_comes_of(devices.replace(&key, &device, &device, Some(Timestamp::from_millis(7_999))));
    what_comes_of(devices.replace(&key, &device, &device, None));
    assert_eq!(devices.last_used_at(&key), Some(Timestamp::from_secs(7)));
    assert_eq!(devices.created_at(&key), Some(Timestamp::from_secs(5)));
    Ok(())
}

#[test]
fn a_hook_runs_before_each_call_and_may_change_what_is_stored() -> Outcome {
    let (key, held) = (key()?, device()?);
    let devices = MemoryDevices::default();
    devices.put(&key, &held);
    let (store, rival) = (devices.clone(), key.clone());
    devices.before_each(move |op| {
        if op == Op::Replace {
            store.take(&rival);
        }
    });
    assert_eq!(
        what_comes_of(devices.get(&key)),
        Came::Answer(Some(held.clone())),
        "a call of another kind"
    );
    let came = what_comes_of(devices.clone().replace(&key, &held, &held, None));
    assert_eq!(came, Came::Answer(Written::No(None)));
    Ok(())
}
