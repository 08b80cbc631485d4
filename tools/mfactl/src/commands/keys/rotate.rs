//! `keys rotate`: adds a key to the key ring, under which seeds are sealed from now on.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::clock::Clock;
use shared::ports::operator::{DeviceInventory, KeyRingStore, Rotated, SeedInventory};
use shared::random::Random;
use shared::sealed::NewKey;

use super::reseal::time_in_caches;
use crate::commands::device::DeviceAdmin;
use crate::commands::text::count;
use crate::terminal::Terminal;

/// What `keys rotate` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct RotateRequest {
    /// How long the functions may keep a seed in memory.
    pub seed_cache: Duration,
    /// Whether to report only.
    pub dry_run: bool,
}

impl<D, S, C, R, T> DeviceAdmin<D, S, C, R, T>
where
    D: DeviceInventory,
    S: SeedInventory + KeyRingStore,
    C: Clock,
    R: Random,
    T: Terminal,
{
    /// Rotates the key ring. Run again, it adds another key, which does no harm.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn rotate_keys(&mut self, request: &RotateRequest) -> Result<()> {
        let ring = self.key_ring().await?;
        let has = format!(
            "The key ring has {}; {} seals since {}.",
            count(ring.previous.len() + 1, "key"),
            ring.current,
            ring.created_at.rfc3339()
        );
        if request.dry_run {
            return Ok(self.terminal.say(&format!("{has} A new key would be added."))?);
        }
        self.confirm(&format!(
            "{has} Add a new key, under which seeds are sealed from now on? It stays in the ring forever."
        ))?;
        let new = NewKey::generate(&self.random)?;
        let rotated = self.seeds.rotate_key_ring(&ring, &new).await;
        let rotated = rotated.context(
            "it is not known whether the key ring was rotated: `mfactl keys list` shows its keys, and rotating it once more \
             does no harm",
        )?;
        let Rotated::Yes(key) = rotated else {
            bail!("the key ring was rotated concurrently, and not by this run: `mfactl keys list` shows its keys")
        };
        let from = self.clock.now().plus(time_in_caches(request.seed_cache));
        self.terminal.say(&format!(
            "Key {key} seals from now on. From {} on, `mfactl keys reseal` seals the other seeds again.",
            from.rfc3339()
        ))?;
        Ok(())
    }
}
