//! Maps by key, in which a key already there is found without a copy of it.

use compact_str::CompactString;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

/// A map by key. Keys of up to 24 bytes live inside the entry.
pub(crate) type Keyed<V> = HashMap<CompactString, V, foldhash::fast::RandomState>;

/// The value at `key`, made if it is not there.
pub(crate) fn at<'m, V>(map: &'m mut Keyed<V>, key: &str, make: impl FnOnce() -> V) -> &'m mut V {
    match map.entry_ref(key) {
        EntryRef::Occupied(entry) => entry.into_mut(),
        EntryRef::Vacant(entry) => entry.insert_with_key(key.into(), make()),
    }
}
