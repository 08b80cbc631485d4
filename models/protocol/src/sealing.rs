//! Sealed seeds, and the command that seals them again under a newer key. A blob is the number of its seed and of its key.
//!
//! Keys are never taken from the ring, so every blob opens that is of the right seed. That old ones come back is a fault all
//! the same: whoever has counted what an old key still seals would be wrong.

use shared::device::Device;
use shared::sealed::SealedSeed;

use crate::model::Protocol;
use crate::part::Part;
use crate::state::{Answer, Item, State, Task, UseCase, Write};
use crate::{Invariant, Mutant};

/// A seed under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Blob {
    pub(crate) seed: u8,
    pub(crate) key: u8,
}

impl Blob {
    /// As new seeds are sealed: under the oldest key, as by a function that has an old ring.
    pub(crate) const fn of(seed: u8) -> Self {
        Self { seed, key: 0 }
    }

    pub(crate) fn sealed(self) -> SealedSeed {
        SealedSeed::from_bytes(vec![SealedSeed::FORMAT, 0, 0, 0, self.key, self.seed])
    }

    pub(crate) fn read(sealed: &SealedSeed) -> Option<Self> {
        let [_, _, _, _, key, seed] = *sealed.as_bytes() else {
            return None;
        };
        Some(Self { seed, key })
    }

    fn under(self, key: u8) -> Self {
        Self {
            key: self.key.max(key),
            ..self
        }
    }
}

/// Both blobs of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Blobs {
    pub(crate) own: Blob,
    pub(crate) pending: Option<Blob>,
}

impl Blobs {
    pub(crate) fn of(item: &Item) -> Option<Self> {
        Some(Self {
            own: Blob::read(item.device.sealed.as_ref()?)?,
            pending: item.pending_sealed,
        })
    }
}

impl Protocol {
    /// A seed as a registration seals it, if seeds are sealed.
    pub(crate) fn seal(&self, seed: u8) -> Option<SealedSeed> {
        self.setup.sealed.then(|| Blob::of(seed).sealed())
    }

    /// The command reads the device, and seals what is not under its key. The n-th command has the n-th key after the first.
    pub(crate) fn begin_resealing(state: &mut State, number: usize) -> Option<()> {
        let held = Blobs::of(&state.item()?)?;
        let earlier = state.desk.tasks.iter().take(number);
        let earlier = earlier.filter(|task| task.use_case == UseCase::Reseal).count();
        let key = u8::try_from(earlier + 1).ok()?;
        let new = Blobs {
            own: held.own.under(key),
            pending: held.pending.map(|blob| blob.under(key)),
        };
        let task = state.desk.tasks.get_mut(number)?;
        if new == held {
            task.over = true;
        } else {
            task.asks = Some(Part::new(Write::Reseal { held, new }));
        }
        Some(())
    }

    /// Its write, in the table.
    pub(crate) fn reseal(&self, item: &mut Item, held: Blobs, new: Blobs) -> Option<Answer> {
        let stored = Blobs::of(item)?;
        if stored != held && !self.mutant(Mutant::ResealWithoutCondition) {
            return Some(Answer::Is(Some(item.clone())));
        }
        item.device = Part::new(Device {
            sealed: Some(new.own.sealed()),
            ..Device::clone(&item.device)
        });
        item.pending_sealed = new.pending.filter(|_| item.pending.is_some());
        Some(Answer::Yes)
    }

    /// The blob that a write of a verdict leaves beside the device. `read` is what an activation read as pending.
    pub(crate) fn sealed_after(
        &self,
        state: &State,
        swaps: bool,
        written: Option<SealedSeed>,
        read: Option<Blob>,
    ) -> Option<SealedSeed> {
        if self.mutant(Mutant::VerdictWritesBlob) && !swaps {
            return written;
        }
        if !swaps {
            return state.table.as_ref()?.sealed.clone();
        }
        let moved = match self.setup.mutant {
            Some(Mutant::SwapWritesBlobItRead) => read,
            _ => state.desk.pending_sealed,
        };
        moved.map(Blob::sealed)
    }

    /// Every blob is of the seed beside it, and none is under an older key than before.
    pub(crate) fn watch_blobs(&self, before: &State, after: &mut State) {
        if !self.setup.sealed {
            return;
        }
        let Some(item) = after.item() else { return };
        let Some(now) = Blobs::of(&item) else {
            after.ledger.broken.add(Invariant::Sealed);
            return;
        };
        let pending = after.desk.pending.map(|(seed, _)| seed);
        let was = before.item().and_then(|item| Blobs::of(&item));
        let was = was
            .map(|was| [Some(was.own), was.pending])
            .into_iter()
            .flatten()
            .flatten();
        let is = || [Some(now.own), now.pending].into_iter().flatten();
        let mut older = was.flat_map(|was| is().map(move |is| is.seed == was.seed && is.key < was.key));
        if now.own.seed != after.seed || now.pending.map(|blob| blob.seed) != pending || older.any(|older| older) {
            after.ledger.broken.add(Invariant::Sealed);
        }
    }
}

/// Whether a late write of the command will be refused.
pub(crate) fn is_refused(stored: &Device, pending: Option<Blob>, held: Blobs) -> bool {
    stored.sealed.as_ref().and_then(Blob::read) != Some(held.own) || pending != held.pending
}

/// The command ends with its write: whoever runs it reads the device again, and that is another one.
pub(crate) fn is_resealing(task: &Task) -> bool {
    task.use_case == UseCase::Reseal
}
