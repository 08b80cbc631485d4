//! The table as a use case of `shared::registration` sees it, one answer at a time.
//!
//! A use case is kept as the answers that it got. To go on it runs again from its beginning: each call gets the answer that
//! it got before, and the first one without an answer is what the use case waits for. So the model needs no second version
//! of what a registration does.

use std::future::Future as _;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::device::{Device, DeviceRecord, NewSeed, PendingSeed, RegisteredBy, Registration, Status};
use shared::error::StoreError;
use shared::names::{DeviceKey, DeviceName, Owner, SeedRef, UserName};
use shared::ports::registry::{DevicePage, DeviceRegistry, Removed};
use shared::ports::{DeviceStore, Stored, Written};
use shared::registration::{Leftovers, Limits, RegisterRequest, make_room, register, remove};

use crate::model::Protocol;
use crate::part::Part;
use crate::sealing::Blob;
use crate::state::{Answer, Call, Item, Task, UseCase, Write};
use crate::{Mutant, Setup};

/// How far a use case has come.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Progress {
    /// It waits for an answer.
    Asks(Call),
    /// It has ended; whether with success.
    Ends(bool, Leftovers),
}

impl Protocol {
    /// Runs a use case on the answers that it has.
    pub(crate) fn run(&self, task: &Task) -> Option<Progress> {
        let begun = task.begun.as_ref()?;
        let script = Script {
            protocol: self,
            answers: &task.answers,
            answered: AtomicUsize::new(0),
            asks: OnceLock::new(),
        };
        let read = begun.read.as_ref().and_then(|item| self.record(item));
        let mut leftovers = Leftovers::default();
        let polled = {
            let left = &mut leftovers;
            let run = pin!(async {
                match task.use_case {
                    UseCase::Register => {
                        let request = self.register_request(begun.seed, begun.at)?;
                        Some(register(&script, read, &request, left).await.is_ok())
                    }
                    // It runs in `sealing`.
                    UseCase::Reseal => None,
                    UseCase::Remove => Some(remove(&script, &self.key, left).await.is_ok()),
                    UseCase::Evict => {
                        let all: Vec<_> = read.into_iter().collect();
                        Some(
                            make_room(&script, &self.another_key()?, &all, LIMITS, left)
                                .await
                                .is_ok(),
                        )
                    }
                }
            });
            run.poll(&mut Context::from_waker(Waker::noop()))
        };
        match polled {
            Poll::Ready(done) => Some(Progress::Ends(done?, leftovers)),
            Poll::Pending => script.asks.into_inner().map(Progress::Asks),
        }
    }

    fn register_request(&self, seed: u8, now: Timestamp) -> Option<RegisterRequest> {
        Some(RegisterRequest {
            key: self.key.clone(),
            seed: NewSeed {
                seed_ref: self.seed_ref(seed)?,
                parameters: Setup::parameters(),
            },
            sealed: self.seal(seed),
            replace: true,
            status: Status::ActivationRequired,
            by: RegisteredBy::Http,
            version: Setup::first_version(seed),
            now,
            pending_until: now.plus(Setup::PENDING_LIFE),
            activate_within: Duration::from_hours(24),
        })
    }

    /// A further device of the user, which the one of the model gives way to.
    fn another_key(&self) -> Option<DeviceKey> {
        Some(DeviceKey {
            device: DeviceName::parse("another").ok()?,
            ..self.key.clone()
        })
    }

    fn record(&self, item: &Item) -> Option<DeviceRecord> {
        let pending = match item.pending {
            Some((seed, until)) => Some(PendingSeed {
                seed_ref: self.seed_ref(seed)?,
                sealed: item.pending_sealed.map(Blob::sealed),
                until,
            }),
            None => None,
        };
        Some(DeviceRecord {
            key: self.key.clone(),
            device: Device::clone(&item.device),
            pending,
            created_at: self.setup.time(0),
            by: RegisteredBy::Http,
            activate_by: None,
            last_used_at: None,
        })
    }
}

/// One more device that was never active is too many.
const LIMITS: Limits = Limits {
    devices: 10,
    unfinished: 1,
};

struct Script<'a> {
    protocol: &'a Protocol,
    answers: &'a [Answer],
    answered: AtomicUsize,
    asks: OnceLock<Call>,
}

impl Script<'_> {
    async fn answer(&self, call: Call) -> Result<&Answer, StoreError> {
        match self.answers.get(self.answered.fetch_add(1, Ordering::Relaxed)) {
            Some(Answer::Lost) => Err(NO_ANSWER),
            Some(answer) => Ok(answer),
            None => {
                // It asks once: nothing comes after a call that is not answered.
                let _ = self.asks.set(call);
                std::future::pending().await
            }
        }
    }

    async fn written(&self, write: Write) -> Result<Written, StoreError> {
        Ok(match self.answer(Call::Write(write)).await? {
            Answer::Is(stored) => Written::No(stored.as_ref().map(|item| Box::new(Device::clone(&item.device)))),
            Answer::Yes | Answer::Removed(_) | Answer::Lost => Written::Yes,
        })
    }
}

const NO_ANSWER: StoreError = StoreError::Corrupt {
    store: "model",
    what: "no answer",
};

impl DeviceStore for Script<'_> {
    async fn get(&self, _: &DeviceKey) -> Result<Option<Device>, StoreError> {
        Err(NO_ANSWER)
    }

    async fn replace(
        &self,
        _: &DeviceKey,
        _: &Device,
        _: &Device,
        _: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        Err(NO_ANSWER)
    }
}

impl DeviceRegistry for Script<'_> {
    async fn record(&self, _: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        match self.answer(Call::Read).await? {
            Answer::Is(stored) => Ok(stored.as_ref().and_then(|item| self.protocol.record(item))),
            _ => Err(NO_ANSWER),
        }
    }

    async fn user_page(
        &self,
        _: &Owner,
        _: &UserName,
        _: Option<&DeviceKey>,
        _: u16,
    ) -> Result<DevicePage, StoreError> {
        Err(NO_ANSWER)
    }

    async fn register(&self, _: &DeviceKey, device: &Device, _: &Registration) -> Result<Stored, StoreError> {
        Ok(match self.written(Write::Create(device.clone())).await? {
            Written::Yes => Stored::Yes,
            Written::No(_) | Written::NotPending => Stored::Taken,
        })
    }

    async fn reseed(
        &self,
        _: &DeviceKey,
        held: &Device,
        new: &Device,
        _: RegisteredBy,
        _: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let (held, new) = (held.clone(), new.clone());
        self.written(Write::Reseed { held, new }).await
    }

    async fn set_pending_seed(
        &self,
        _: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> Result<Written, StoreError> {
        let (held, pending) = (held.clone(), pending.clone());
        self.written(Write::SetPending { held, pending }).await
    }

    async fn remove_held(&self, _: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        self.written(Write::RemoveHeld(held.clone())).await
    }

    async fn remove_seeded(&self, _: &DeviceKey, seed: &SeedRef) -> Result<Removed, StoreError> {
        let record = |item: &Item| self.protocol.record(item).map(Box::new);
        match self.answer(Call::Write(Write::RemoveSeeded(seed.clone()))).await? {
            Answer::Removed(item) => Ok(Removed::Yes(record(item).ok_or(NO_ANSWER)?)),
            Answer::Is(stored) => Ok(Removed::No(stored.as_ref().and_then(record))),
            Answer::Yes | Answer::Lost => Err(NO_ANSWER),
        }
    }
}

impl Protocol {
    /// The table's part of a write: its condition, then all or nothing.
    pub(crate) fn make(&self, item: &mut Option<Item>, write: &Write) -> Option<Answer> {
        let Some(stored) = item.clone() else {
            if let Write::Create(new) = write {
                *item = Some(Item::of(new.clone()));
                return Some(Answer::Yes);
            }
            return Some(Answer::Is(None));
        };
        let device = &*stored.device;
        let evicts_anything = self.mutant(Mutant::EvictionWithoutCondition);
        let removes_anything = self.mutant(Mutant::DeleteWithoutCondition);
        match write {
            // What is written is there already: by an earlier try.
            Write::Create(new) if device == new => {}
            Write::Reseed { new, .. } if device.seed_ref == new.seed_ref => {}
            Write::SetPending { pending, .. }
                if stored
                    .pending
                    .is_some_and(|(seed, _)| self.seed_ref(seed).as_ref() == Some(&pending.seed_ref)) => {}
            Write::Reseed { held, new }
                if self.condition(device, held) && device.status == Status::ActivationRequired =>
            {
                *item = Some(Item::of(new.clone()));
            }
            Write::SetPending { held, pending } if self.condition(device, held) => {
                let status = if self.mutant(Mutant::OfferSuspends) {
                    Status::ActivationRequired
                } else {
                    device.status
                };
                *item = Some(Item {
                    device: Part::new(Device {
                        version: device.version + 1,
                        status,
                        ..device.clone()
                    }),
                    pending: Some((self.number(&pending.seed_ref)?, pending.until)),
                    pending_sealed: pending.sealed.as_ref().and_then(Blob::read),
                });
            }
            Write::Reseal { held, new } => return self.reseal(item.as_mut()?, *held, *new),
            Write::RemoveHeld(held) if self.condition(device, held) || evicts_anything => *item = None,
            Write::RemoveSeeded(seed)
                if device.seed_ref == *seed && device.status != Status::Disabled || removes_anything =>
            {
                *item = None;
                return Some(Answer::Removed(stored));
            }
            _ => return Some(Answer::Is(Some(stored))),
        }
        Some(Answer::Yes)
    }
}
