//! SQLite on a disk that is full for a while: a small tmpfs in a mount namespace of the test's own. Mounting needs root, or a kernel
//! that lets users have namespaces.

use std::path::Path;
use std::process::Command;

use herd_spec::plan::{SinkKind, StorePlan};
use herd_store::Store;

use crate::bus::MemoryBus;
use crate::scene::{EVENTS, GROUP, memory_bus, start, until};

/// Where the small disk is, for the test that runs beside it.
const VARIABLE: &str = "HERD_TEST_SMALL_DISK";

fn put_events(bus: &MemoryBus, ids: std::ops::Range<usize>) {
    let page = "x".repeat(10_000);
    for id in ids {
        let event = format!(
            r#"{{"v":1,"event_id":"e-{id}","type":"view","user_id":"ann","item_id":"mug","time":{},"received":1,"properties":{{"page":"{page}"}}}}"#,
            1_700_000_000_000_usize + id
        );
        bus.put(EVENTS, id % 2, 7, event);
    }
}

#[test]
fn sqlite_waits_for_a_full_disk_and_stores_everything_once_there_is_room() {
    let name = "sqlite_waits_for_a_full_disk_and_stores_everything_once_there_is_room";
    if let Ok(disk) = std::env::var(VARIABLE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(fills(Path::new(&disk)));
    }
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    let output = Command::new("unshare")
        .args(if root { &["--mount"][..] } else { &["--map-root-user", "--mount"][..] })
        .args(["sh", "-c", "mount -t tmpfs -o size=16m disk \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("disk::{name}"), "--nocapture"])
        .env(VARIABLE, folder.path())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn fills(disk: &Path) {
    let bus = memory_bus();
    let sink = start(SinkKind::Store(StorePlan::Sqlite { path: "shop.db".into() }), &bus, disk);
    put_events(&bus, 0..10);
    until("the first are stored", async || bus.is_committed(EVENTS, GROUP)).await;
    let ballast = disk.join("ballast");
    // As much as there is room for: the last write fails, which is the point.
    let _ = std::fs::write(&ballast, vec![1_u8; 16 << 20]);
    put_events(&bus, 10..300);
    let mut said = Vec::new();
    until("it says that the disk is full, several times over", async || {
        said.extend(sink.stage.health.complaints().into_values());
        said.len() > 200
    })
    .await;
    assert!(said.iter().all(|one| one.contains("the database is unavailable")), "{:?}", said.last());
    std::fs::remove_file(ballast).unwrap();
    until("all is stored", async || bus.is_committed(EVENTS, GROUP)).await;
    assert!(sink.stage.health.complaints().is_empty());
    sink.stop().await.unwrap();
    let store = Store::sqlite(&disk.join("shop.db")).await.unwrap();
    assert_eq!(store.counts().await.unwrap().events, 300);
    assert_eq!(store.user_stats("ann").await.unwrap().unwrap().events, 300);
}
