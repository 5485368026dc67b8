//! Slots with a total limit and a limit for each key.
//!
//! If all are taken, the next client gets the oldest slot that is not kept. A client that
//! authenticates does so at once, and then its slot is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A limited number of slots.
#[derive(Debug)]
pub struct Slots<K> {
    most: usize,
    /// Most slots for one key.
    each: usize,
    table: Mutex<SlotTable<K>>,
}

/// The taken slots, oldest first.
#[derive(Debug)]
struct SlotTable<K> {
    next: u64,
    taken: BTreeMap<u64, TakenSlot<K>>,
}

#[derive(Debug)]
struct TakenSlot<K> {
    key: K,
    /// Number of holders that keep it.
    kept: usize,
    leave: watch::Sender<bool>,
}

/// A slot, taken until this is dropped.
#[derive(Debug)]
pub struct Slot<K> {
    places: Arc<Slots<K>>,
    number: u64,
    leave: watch::Receiver<bool>,
}

/// Keeps a slot until this is dropped.
#[derive(Debug)]
pub struct KeptSlot<K>(Arc<Slot<K>>);

impl<K: PartialEq> Slots<K> {
    pub fn new(most: usize, each: usize) -> Arc<Self> {
        let table = SlotTable { next: 0, taken: BTreeMap::new() };
        Arc::new(Slots { most, each, table: Mutex::new(table) })
    }

    fn table(&self) -> MutexGuard<'_, SlotTable<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot. If none is free, evicts the oldest of this key if the key is at its limit,
    /// else the oldest of all. `None` if every candidate is kept.
    pub fn enter(self: &Arc<Self>, key: K) -> Option<Slot<K>> {
        let mut table = self.table();
        if table.taken.values().filter(|taken| taken.key == key).count() >= self.each {
            table.send_away(|taken| taken.key == key)?;
        } else if table.taken.len() >= self.most {
            table.send_away(|_| true)?;
        }
        let number = table.next;
        table.next += 1;
        let (leave, told) = watch::channel(false);
        table.taken.insert(number, TakenSlot { key, kept: 0, leave });
        Some(Slot { places: Arc::clone(self), number, leave: told })
    }
}

impl<K> SlotTable<K> {
    /// Evicts the oldest matching slot that is not kept.
    fn send_away(&mut self, is_wanted: impl Fn(&TakenSlot<K>) -> bool) -> Option<()> {
        let oldest = |(_, taken): &(&u64, &TakenSlot<K>)| taken.kept == 0 && is_wanted(taken);
        let number = *self.taken.iter().find(oldest)?.0;
        let taken = self.taken.remove(&number)?;
        taken.leave.send_replace(true);
        Some(())
    }
}

impl<K> Slot<K> {
    fn change(&self, change: impl FnOnce(&mut TakenSlot<K>)) {
        let mut table = self.places.table.lock().unwrap_or_else(PoisonError::into_inner);
        // An evicted slot is no longer listed.
        if let Some(taken) = table.taken.get_mut(&self.number) {
            change(taken);
        }
    }

    /// Resolves when the slot is lost; its holder must then release everything.
    pub async fn is_lost(&self) {
        let mut leave = self.leave.clone();
        // The sender is dropped with this slot, or after sending.
        let _ = leave.wait_for(|leave| *leave).await;
    }

    /// Keeps the slot.
    pub fn keep(self: &Arc<Self>) -> KeptSlot<K> {
        self.change(|taken| taken.kept += 1);
        KeptSlot(Arc::clone(self))
    }
}

impl<K> Drop for KeptSlot<K> {
    fn drop(&mut self) {
        self.0.change(|taken| taken.kept -= 1);
    }
}

impl<K> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut table = self.places.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost<K>(place: &Slot<K>) -> bool {
        *place.leave.borrow()
    }

    #[test]
    fn the_oldest_goes() {
        let places = Slots::new(3, 2);
        let enter = |key| Arc::new(places.enter(key).expect("a place"));
        let (a, b) = (enter('a'), enter('a'));
        // The key's limit is reached: its oldest slot goes, although there is room.
        let c = enter('a');
        assert_eq!([&a, &b, &c].map(|place| is_lost(place)), [true, false, false]);
        let d = enter('b');
        // Full: the oldest of all goes.
        let e = enter('b');
        assert_eq!([&b, &c, &d, &e].map(|place| is_lost(place)), [true, false, false, false]);
        // Dropping an evicted slot changes nothing.
        drop((a, b));
        drop(c);
        let f = enter('a');
        assert_eq!([&d, &e, &f].map(|place| is_lost(place)), [false; 3]);
    }

    #[test]
    fn who_is_kept_stays() {
        let places = Slots::new(2, 2);
        let enter = || places.enter(()).map(Arc::new);
        let (a, b) = (enter().expect("a place"), enter().expect("a place"));
        let (kept, also) = (a.keep(), a.keep());
        let c = enter().expect("a place");
        assert_eq!([&a, &b, &c].map(|place| is_lost(place)), [false, true, false]);
        let all = c.keep();
        assert!(enter().is_none());
        drop(kept);
        assert!(enter().is_none());
        drop(also);
        let d = enter().expect("a place");
        assert_eq!([&a, &c, &d].map(|place| is_lost(place)), [true, false, false]);
        // An evicted slot cannot be kept.
        drop(a.keep());
        drop(all);
    }

    #[tokio::test]
    async fn all_that_wait_hear_of_a_loss() {
        let places = Slots::new(1, 1);
        let first = Arc::new(places.enter(()).expect("a place"));
        let waiting = Arc::clone(&first);
        let told = tokio::spawn(async move { waiting.is_lost().await });
        let _second = places.enter(()).expect("a place");
        first.is_lost().await;
        told.await.expect("told");
    }
}
