//! The store over its outages. After a failed write (a full disk, most often) the database takes nothing more, so as not to
//! write behind what may be half a record. It is then opened anew in place, as after a restart of the process: what is
//! torn at the end of its journal is cut off there. Everybody reaches the database through [`Store::get`] and so never
//! holds one that was replaced.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};

use super::store::{Durability, LEAST_ROOM, OpenStore, StoreError};
use crate::BusError;

/// Room is looked for by writing blocks of this size.
const BLOCK: usize = 1 << 20;
/// The threads of the database have let go of its files within this time after it was dropped.
const SETTLE: Duration = Duration::from_millis(100);

/// The store, open except while it is being opened anew.
pub(super) struct Store {
    folder: PathBuf,
    durability: Durability,
    current: RwLock<Option<OpenStore>>,
}

impl Store {
    /// Opens it in a folder, which is made if it is not there.
    pub(super) fn open(folder: &Path, durability: Durability) -> Result<Self, BusError> {
        let opened = OpenStore::open(folder, durability)?;
        Ok(Self { folder: folder.to_owned(), durability, current: RwLock::new(Some(opened)) })
    }

    /// The database, which stays in place as long as this is held: not to be asked for again meanwhile.
    pub(super) fn get(&self) -> Result<MappedRwLockReadGuard<'_, OpenStore>, StoreError> {
        RwLockReadGuard::try_map(self.current.read(), Option::as_ref).map_err(|_| StoreError::Closed)
    }

    /// Whether there is room enough for [`Store::reopen`] to be worth its while. Takes as long as the disk does.
    pub(super) fn find_room(&self) -> Result<(), StoreError> {
        let folder = || self.folder.display().to_string();
        find_room(&self.folder).map_err(|source| StoreError::Room { folder: folder(), source })
    }

    /// Opens the database anew, then `repair`s what the failed write may have left. Waits until nobody reads.
    pub(super) fn reopen(
        &self,
        repair: impl FnOnce(&OpenStore) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut current = self.current.write();
        drop(current.take());
        std::thread::sleep(SETTLE);
        let opened = OpenStore::open(&self.folder, self.durability).map_err(|error| {
            tracing::debug!(%error, "the store could not be opened anew");
            StoreError::Closed
        })?;
        // Readers go no further than the end they know: also what is not repaired yet is not read.
        repair(current.insert(opened))
    }
}

/// Whether [`LEAST_ROOM`] can be written to the folder: asked of the file system itself, which knows of quotas too.
fn find_room(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("room");
    let mut file = File::create(&path)?;
    // Removed while it is open: nothing is left behind, whatever happens.
    std::fs::remove_file(&path)?;
    let block = vec![0x5a; BLOCK];
    for _ in 0..LEAST_ROOM / BLOCK {
        file.write_all(&block)?;
    }
    file.sync_data()
}
