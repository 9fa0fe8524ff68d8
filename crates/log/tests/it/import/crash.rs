//! Imports that are cut short: nothing is lost and nothing comes twice.

use nsq_log::testing::Stop;

use super::{folder::GoFolder, stopped};

/// Imports a folder with a stop at every change in turn, and once more after it.
fn import_with_stops(base: &GoFolder, stop: impl Fn(u64) -> Stop, check: impl Fn(&GoFolder)) {
    for change in 1.. {
        let folder = base.restart(Stop::Kill);
        folder.disk.crash_at(change);
        let first = folder.try_import();
        if first.is_ok() && !folder.disk.crashed() {
            assert!(change > 50, "only {change} changes");
            return;
        }
        let folder = folder.restart(stop(change));
        folder.import();
        check(&folder);
        let left = folder.files_in("");
        assert!(!left.iter().any(|(name, _)| name.contains("diskqueue")), "{change}: {left:?}");
        for name in ["import.tmp", "import.committed"] {
            assert!(folder.files_in(name).is_empty(), "{change}: {name}");
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_and_repeats_nothing() {
    let base = GoFolder::load("stopped");
    import_with_stops(&base, |_| Stop::Kill, |folder| assert_eq!(folder.waiting(), stopped()));
}

#[test]
fn a_power_cut_at_any_moment_loses_and_repeats_nothing() {
    let base = GoFolder::load("stopped");
    for round in 0..4 {
        let stop = |change| Stop::PowerCut { seed: change * 4 + round };
        import_with_stops(&base, stop, |folder| assert_eq!(folder.waiting(), stopped()));
    }
}

#[test]
fn a_kill_while_queues_are_added_to_logs_loses_and_repeats_nothing() {
    let base = GoFolder::load("stopped");
    base.import();
    for (name, bytes) in GoFolder::fixture("stopped") {
        base.put(&name, &bytes);
    }
    let twice = |folder: &GoFolder| {
        for ((name, found), (_, once)) in folder.waiting().into_iter().zip(stopped()) {
            // Messages that wait at a paused topic go on to its channels when those are given more.
            if !name.starts_with("held") {
                assert_eq!(found, [once.clone(), once].concat(), "{name}");
            }
        }
    };
    import_with_stops(&base, |_| Stop::Kill, twice);
}

#[test]
fn a_full_disk_leaves_the_queues_for_the_next_start() {
    let folder = GoFolder::load("stopped");
    let before = folder.files_in("");
    let used = folder.disk.used();
    for room in (0..20_000).step_by(400) {
        folder.disk.limit_space(Some(used + room));
        if folder.try_import().is_ok() {
            assert!(room > 0);
            assert_eq!(folder.waiting(), stopped());
            return;
        }
        assert_eq!(folder.files_in(""), before, "with {room} bytes");
        assert_eq!(folder.disk.used(), used, "with {room} bytes");
    }
    panic!("never imported");
}
