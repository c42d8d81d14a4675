//! The file tree of the sandbox: a root in memory with the system's libraries and Python's folders bound into it,
//! read-only, and nothing else. No /proc, no /home, no /etc but the cache of the dynamic linker.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, pivot_root};

use super::Stop;
use crate::probe::Layer;
use crate::python::Interpreter;

/// The compiled driver inside the tree.
pub(crate) const DRIVER: &str = "/driver.pyc";

/// The working folder inside the tree, empty for each program.
pub(crate) const WORK: &str = "/work";

/// Links or folders of the system that hold programs and libraries, where the machine has them.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];

/// Device files that are safe in any hands.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/// Builds the tree, makes it the root, and lets go of the old one.
pub(crate) fn enter(python: &Interpreter) -> Result<(), Stop> {
    build(python).map_err(|(what, error)| Stop::Layer {
        layer: Layer::Files.to_string(),
        message: format!("{what}: {error}"),
    })
}

type Step<T> = Result<T, (String, io::Error)>;

fn at<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> (String, io::Error) {
    let what = what.into();
    move |error| (what, error.into())
}

/// Something to bind: opened before its path is hidden.
struct Source {
    path: PathBuf,
    file: File,
}

fn build(python: &Interpreter) -> Step<()> {
    let none: Option<&str> = None;
    // Nothing that is mounted here may appear outside.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(at("making mounts private"))?;

    let mut sources = Vec::new();
    let mut links = Vec::new();
    for path in SYSTEM.map(Path::new) {
        match fs::read_link(path) {
            Ok(target) => links.push((path, target)),
            Err(_) if path.is_dir() => sources.push(open(path)?),
            Err(_) => {}
        }
    }
    for path in python.folders() {
        sources.push(open(&path)?);
    }
    let devices: Vec<Source> =
        DEVICES.iter().map(Path::new).filter(|path| path.exists()).map(open).collect::<Step<_>>()?;
    let cache = fs::read("/etc/ld.so.cache").unwrap_or_default();

    let root = ["/tmp", "/var/tmp", "/mnt", "/run"].into_iter().map(Path::new).find(|path| path.is_dir());
    let root = root.ok_or_else(|| ("a folder to mount on".to_owned(), io::ErrorKind::NotFound.into()))?;
    let memory = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("sandbox"), root, Some("tmpfs"), memory, Some("mode=0755,size=16m,nr_inodes=4096"))
        .map_err(at(format!("tmpfs on {}", root.display())))?;
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));

    for source in &sources {
        folder(&inside(&source.path))?;
        bind(source, &inside(&source.path), MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    }
    for (path, target) in links {
        symlink(target, inside(path)).map_err(at(path.display().to_string()))?;
    }
    for source in &devices {
        folder(&inside(Path::new("/dev")))?;
        file(&inside(&source.path), b"")?;
        bind(source, &inside(&source.path), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)?;
    }
    folder(&inside(Path::new("/etc")))?;
    file(&inside(Path::new("/etc/ld.so.cache")), &cache)?;
    file(&inside(Path::new("/etc/passwd")), b"user:x:1000:1000::/work:/bin/false\n")?;
    file(&inside(Path::new(DRIVER)), &python.driver)?;
    folder(&inside(Path::new(WORK)))?;
    symlink(WORK, inside(Path::new("/tmp"))).map_err(at("/tmp"))?;
    hide_packages(python, root)?;

    chdir(root).map_err(at("chdir"))?;
    pivot_root(".", ".").map_err(at("pivot_root"))?;
    // The old root lies on top of the new one now.
    umount2(".", MntFlags::MNT_DETACH).map_err(at("unmounting the old root"))?;
    chdir("/").map_err(at("chdir"))?;
    let sealed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | memory;
    mount(none, "/", none, sealed, none).map_err(at("making the root read-only"))
}

fn open(path: impl AsRef<Path>) -> Step<Source> {
    let path = path.as_ref().to_path_buf();
    // O_PATH: the file is named, not read.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&path);
    Ok(Source { file: file.map_err(at(path.display().to_string()))?, path })
}

/// A folder and those above it, open to all whatever the umask.
fn folder(path: &Path) -> Step<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        folder(parent)?;
    }
    let open = |path: &Path| {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    open(path).map_err(at(path.display().to_string()))
}

fn file(path: &Path, bytes: &[u8]) -> Step<()> {
    let write = || {
        fs::write(path, bytes)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o444))
    };
    write().map_err(at(path.display().to_string()))
}

/// Binds a folder or file with all that is mounted in it, read-only.
fn bind(source: &Source, target: &Path, flags: MsFlags) -> Step<()> {
    let none: Option<&str> = None;
    let name = source.path.display().to_string();
    let from = format!("/proc/self/fd/{}", source.file.as_raw_fd());
    mount(Some(from.as_str()), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(at(format!("binding {name}")))?;
    for place in mounts_under(target)? {
        // A flag that the owner of the machine has set must be kept, or the system refuses.
        let kept = statvfs(&place).map(|found| kept(found.flags())).unwrap_or(MsFlags::empty());
        let sealed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags | kept;
        mount(none, &place, none, sealed, none).map_err(at(format!("making {name} read-only")))?;
    }
    Ok(())
}

fn kept(flags: FsFlags) -> MsFlags {
    let pairs = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    pairs.into_iter().filter(|(found, _)| flags.contains(*found)).map(|(_, flag)| flag).collect()
}

/// The mount points at and under a path, from the kernel's table.
fn mounts_under(path: &Path) -> Step<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(at("/proc/self/mountinfo"))?;
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    // White space and backslashes are written in octal.
    let octal = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let plain = places
        .map(|place| octal.iter().fold(place.to_owned(), |text, (code, plain)| text.replace(code, plain)));
    let mut found: Vec<PathBuf> = plain.map(PathBuf::from).filter(|place| place.starts_with(path)).collect();
    found.dedup();
    Ok(found)
}

/// Packages that the user installed are not the system's: an empty folder covers them.
fn hide_packages(python: &Interpreter, root: &Path) -> Step<()> {
    let none: Option<&str> = None;
    let empty = root.join("empty");
    folder(&empty)?;
    let (major, minor) = python.version;
    for prefix in python.prefixes.iter().map(PathBuf::as_path).chain([Path::new("/usr/local")]) {
        for name in
            [format!("python{major}.{minor}/site-packages"), format!("python{major}.{minor}/dist-packages")]
        {
            let place = prefix.join("lib").join(name);
            let place = root.join(place.strip_prefix("/").unwrap_or(&place));
            if place.is_dir() {
                mount(Some(&empty), &place, none, MsFlags::MS_BIND, none)
                    .map_err(at(format!("covering {}", place.display())))?;
            }
        }
    }
    Ok(())
}
