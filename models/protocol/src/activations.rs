//! The real `activate` over stores in memory, beside what the model makes of an activation: in states of random walks,
//! with its write answered, lost, and lost after it took effect.

use std::error::Error;
use std::pin::pin;
use std::task::{Context, Waker};

use shared::clock::Timestamp;
use shared::device::{Device, NewSeed, PendingSeed};
use shared::names::{SeedRef, WriteId};
use shared::otp::{Offer as TypedOffer, OfferKind, OtpCode, Seed};
use shared::registration::{Activation, Leftovers, activate};
use shared::testing::memory::{Fault, MemoryDevices, MemorySeeds, Op};
use stateright::Model as _;

use crate::model::auth_id;
use crate::sealing::Blob;
use crate::state::{Action, Phase, State};
use crate::{Offer, Protocol, Setup};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What an activation leaves: the device, its pending seed, and the seeds that are to be removed.
type Left = (Option<Device>, Option<(u8, Timestamp)>, Vec<u8>);

fn seed(number: u8) -> Outcome<Seed> {
    Ok(Seed::from_bytes(&[number + 1; 20], Setup::parameters())?)
}

fn typed(offer: &Offer) -> Outcome<TypedOffer> {
    let codes: Vec<OtpCode> = match offer.right {
        Some((number, _)) => {
            let seed = seed(number)?;
            offer.steps().into_iter().map(|step| seed.code(step)).collect()
        }
        // Of no seed near the first step.
        None => vec![OtpCode::parse("000000")?; 2],
    };
    let mut codes = codes.into_iter();
    let first = codes.next().ok_or("no code")?;
    Ok(match offer.kind {
        OfferKind::Single => TypedOffer::Single(first),
        OfferKind::Pair => TypedOffer::Pair(first, codes.next().ok_or("no second code")?),
    })
}

impl Protocol {
    /// The real use case.
    fn real(&self, state: &State, action: Action, fault: Option<Fault>) -> Outcome<Left> {
        let Action::Activate { request, target, offer } = action else {
            return Err("no activation".into());
        };
        let (devices, seeds) = (MemoryDevices::default(), MemorySeeds::default());
        for number in 0..8 {
            let seed = seed(number)?;
            match self.seed_ref(number).ok_or("no seed")? {
                SeedRef::Sealed(id) => {
                    for key in 0..3 {
                        let blob = Blob { seed: number, key }.sealed();
                        seeds.put_blob(&self.key, id, &blob, &seed)?;
                    }
                }
                secret @ SeedRef::Secret(_) => assert_eq!(seeds.put(&format!("seed/{number}"), &seed)?, secret),
            }
        }
        if let Some(device) = &state.table {
            devices.put(&self.key, device);
        }
        if let Some((pending, until)) = state.desk.pending {
            let seed_ref = self.seed_ref(pending).ok_or("no seed")?;
            devices.put_pending(
                &self.key,
                PendingSeed {
                    seed_ref,
                    sealed: state.desk.pending_sealed.map(Blob::sealed),
                    until,
                },
            );
        }
        if let Some(fault) = fault {
            devices.inject(Op::Replace, fault);
        }
        let auth = self.setup.auths + self.setup.command_of(request).ok_or("no command")?;
        let now = self.setup.clock(request, state.moment);
        let activation = Activation {
            id: auth_id(auth),
            key: self.key.clone(),
            seed: NewSeed {
                seed_ref: self.seed_ref(target).ok_or("no seed")?,
                parameters: Setup::parameters(),
            },
            issued_at: now,
            expires_at: now.plus(Setup::AUTH_LIFE),
        };
        let offered = self.setup.offers(request).and_then(|offers| offers.get(offer));
        let offered = typed(offered.ok_or("no offer")?)?;
        let write_id = WriteId::from_bytes([u8::try_from(request)?; 16]);
        let mut leftovers = Leftovers::default();
        {
            let mut run = pin!(activate(
                &devices,
                &seeds,
                &activation,
                &offered,
                write_id,
                now,
                &self.policy,
                None,
                &mut leftovers,
            ));
            // The stores yield, and are ready at once.
            while run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
        }
        let record = devices.peek_record(&self.key);
        let number = |pending: &PendingSeed| Some((self.number(&pending.seed_ref)?, pending.until));
        let pending = record
            .as_ref()
            .and_then(|record| record.pending.as_ref())
            .and_then(number);
        let unwanted = leftovers.unwanted.iter().filter_map(|seed| self.number_of_secret(seed));
        Ok((record.map(|record| record.device), pending, unwanted.collect()))
    }

    /// The model's events.
    fn modelled(&self, state: &State, action: Action, fault: Option<Fault>) -> Option<Left> {
        let Action::Activate { request, .. } = action else {
            return None;
        };
        let mut next = state.clone();
        self.act(&mut next, action)?;
        let events: &[fn(usize) -> Action] = match fault {
            None => &[Action::Write],
            Some(Fault::After) => &[Action::Lose, Action::Stray, Action::GiveUp],
            Some(_) => &[Action::Lose, Action::GiveUp],
        };
        if matches!(next.requests.get(request)?.phase, Phase::Writing(_)) {
            for event in events {
                self.act(&mut next, event(request))?;
            }
        }
        let unwanted = next.desk.unwanted.all().filter(|seed| !state.desk.unwanted.has(*seed));
        let device = next.table.as_deref().cloned();
        Some((device, next.desk.pending, unwanted.collect()))
    }
}

#[test]
fn an_activation_leaves_what_the_real_one_leaves() -> Outcome<()> {
    let (mut compared, mut swapped) = (0, 0);
    let mut random = fastrand::Rng::with_seed(1);
    for (name, setup) in Setup::all() {
        if setup.commands.is_empty() {
            continue;
        }
        let protocol = Protocol::new(setup)?;
        for _ in 0..40 {
            let mut state = protocol.init_states().pop().ok_or("no state")?;
            loop {
                let mut actions = Vec::new();
                protocol.actions(&state, &mut actions);
                random.shuffle(&mut actions);
                let activates = |action: &&Action| matches!(action, Action::Activate { .. });
                // One of them, since a wrong code is compared with those of fourteen hours.
                if let Some(action) = actions.iter().find(activates) {
                    let fault = random.choice([None, Some(Fault::Before), Some(Fault::After)]).flatten();
                    let real = protocol.real(&state, *action, fault)?;
                    let modelled = protocol.modelled(&state, *action, fault);
                    assert_eq!(
                        Some(&real),
                        modelled.as_ref(),
                        "{name}: {action:?} {fault:?} of {state:?}"
                    );
                    compared += 1;
                    swapped += usize::from(!real.2.is_empty());
                }
                let Some(next) = actions.iter().find_map(|action| protocol.next_state(&state, *action)) else {
                    break;
                };
                state = next;
            }
        }
    }
    assert!(compared > 500 && swapped > 50, "{compared} {swapped}");
    Ok(())
}
