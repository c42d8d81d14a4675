//! The memory of a process and of all that descend from it, from outside.
//!
//! The kernel's limit is one of address space, process by process; for a limit of all together it has control groups,
//! which an ordinary user mostly may not make. So the launcher adds up, a hundred times in a second and more often near the
//! limit, what `/proc` says. What a program can touch between two looks is what it can be above its limit for that long.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Dir, Mode, OFlags, openat};

/// The times between two looks: far below the limit, and near it.
const SELDOM: Duration = Duration::from_millis(10);
const OFTEN: Duration = Duration::from_millis(2);

/// `/proc` as it was when this was made: it can be read where nothing is mounted any more.
pub(crate) struct Memory {
    proc: OwnedFd,
    /// Whether the kernel lists the children of a thread; else all processes of the machine are gone through.
    lists: bool,
}

impl Memory {
    /// Opens `/proc`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(rustix::fs::CWD, "/proc", flags, Mode::empty())?;
        let mut memory = Self { proc, lists: false };
        let own = std::process::id();
        memory.lists = memory.read(&format!("{own}/task/{own}/children")).is_ok();
        // A look that sees nothing would hold nothing back.
        match memory.number(own, "status", &["RssAnon:"]) {
            0 => Err(io::Error::other("/proc does not say how much memory a process has")),
            _ => Ok(memory),
        }
    }

    /// How long to wait before the next look; `None` where the process and its descendants hold more than `most` bytes
    /// together. They are killed then, all of them: what has left the group of its parent as well.
    pub(crate) fn look(&self, first: u32, most: u64) -> Option<Duration> {
        let sum = |tree: &[u32], file: &str, keys: &[&str]| -> u64 {
            tree.iter().map(|id| self.number(*id, file, keys)).sum()
        };
        let tree = self.tree(first);
        let held = sum(&tree, "status", &["RssAnon:", "RssShmem:", "VmSwap:"]);
        if held <= most {
            return Some(if held < most / 2 { SELDOM } else { OFTEN });
        }
        // What processes have shared since a fork is counted in each of them. The exact sum takes its time, in which
        // they would go on; stopped, they touch nothing, and the second look for them finds all that there are.
        signal(&tree, Signal::SIGSTOP);
        let tree = self.tree(first);
        signal(&tree, Signal::SIGSTOP);
        let exact = sum(&tree, "smaps_rollup", &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]);
        // Where that cannot be read, the first sum stands.
        if exact == 0 || exact > most {
            signal(&tree, Signal::SIGKILL);
            return None;
        }
        signal(&tree, Signal::SIGCONT);
        Some(SELDOM)
    }

    fn tree(&self, first: u32) -> Vec<u32> {
        let mut tree = vec![first];
        if !self.lists {
            let all: Vec<(u32, u32)> = self.names("").filter_map(|id| Some((id, self.parent(id)?))).collect();
            let mut at = 0;
            while let Some(id) = tree.get(at).copied() {
                tree.extend(all.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| *child));
                at += 1;
            }
            return tree;
        }
        let mut at = 0;
        while let Some(id) = tree.get(at).copied() {
            // A process that outlived its parent is a child of the first one of its namespace, which is in the tree.
            for thread in self.names(&format!("{id}/task")) {
                let children = self.read(&format!("{id}/task/{thread}/children")).unwrap_or_default();
                tree.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        tree
    }

    fn parent(&self, id: u32) -> Option<u32> {
        let status = self.read(&format!("{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    }

    /// The numbers that name entries of a folder.
    fn names(&self, folder: &str) -> impl Iterator<Item = u32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = if folder.is_empty() { "." } else { folder };
        let opened = openat(&self.proc, folder, flags, Mode::empty()).and_then(Dir::new);
        let entries = opened.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
    }

    /// The sum of the lines with these keys, in bytes. A process that is gone holds nothing.
    fn number(&self, id: u32, file: &str, keys: &[&str]) -> u64 {
        let text = self.read(&format!("{id}/{file}")).unwrap_or_default();
        let kilobytes = |line: &str| -> Option<u64> {
            let rest = keys.iter().find_map(|key| line.strip_prefix(key))?;
            rest.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        text.lines().filter_map(kilobytes).sum::<u64>() << 10
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.proc, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Signals each of them that is still there.
fn signal(processes: &[u32], signal: Signal) {
    for number in processes.iter().filter_map(|id| i32::try_from(*id).ok()) {
        let _ = kill(Pid::from_raw(number), signal);
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::Memory;

    /// This process holds what it holds, whichever way its tree is found.
    #[test]
    fn a_block_that_was_touched_is_seen() {
        let memory = Memory::open().unwrap();
        let id = std::process::id();
        let before = memory.number(id, "status", &["RssAnon:"]);
        let block = black_box(vec![1_u8; 96 << 20]);
        let held = memory.number(id, "status", &["RssAnon:"]) - before;
        assert!((90 << 20..128 << 20).contains(&held), "{held}");
        assert!(memory.look(id, 64 << 30).is_some());
        drop(black_box(block));
    }

    #[test]
    fn both_ways_find_the_same_tree() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 20 & sleep 20"]).spawn().unwrap();
        let listed = Memory::open().unwrap();
        let searched = Memory { lists: false, ..Memory::open().unwrap() };
        let trees = || {
            [listed.tree(child.id()), searched.tree(child.id())].map(|mut tree| {
                tree.sort_unstable();
                tree
            })
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while trees()[0].len() < 3 && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let [one, other] = trees();
        assert_eq!((one.len(), &one), (3, &other));
        assert!(listed.look(child.id(), 1 << 30).is_some() && searched.look(child.id(), 1 << 30).is_some());
        // Above the limit they are killed, the children too.
        assert!(searched.look(child.id(), 4096).is_none());
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        let runs = |id: &u32| {
            let status = listed.read(&format!("{id}/status")).unwrap_or_default();
            status.contains("State:") && !status.contains("State:\tZ")
        };
        while one.iter().any(runs) && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!one.iter().any(runs), "{one:?}");
    }
}
