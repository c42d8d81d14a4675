//! What the new process does to itself before it becomes Python: one layer after the other, each of which it cannot
//! take off again.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, chdir, execve, setgroups, setresgid, setresuid, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Ground, tree};
use crate::probe::Layer;
use crate::program::Limits;
use crate::wire::write_frame;

/// The ordinary user inside, and his group.
pub(crate) const USER: u32 = 1000;

/// The word that opens a message about a layer, where a verdict would have the nonce.
pub(crate) const NO_LAYER: &str = "no-layer";

/// A process like this one, in new process, mount and ipc namespaces, of which it is the first process. `None` in the
/// new process, its number here in the old one.
#[expect(unsafe_code, reason = "there is no safe way to fork with namespaces")]
pub(crate) fn clone() -> io::Result<Option<Pid>> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    let zero = 0_usize;
    // SAFETY: without CLONE_VM and with no stack of its own this is fork: the new process goes on in a copy of the
    // memory. This process has one thread (`close_others` counts them), so no lock can be held by another one.
    let number = unsafe { libc::syscall(libc::SYS_clone, flags as usize, zero, zero, zero, zero) };
    match number {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        number => Ok(Some(Pid::from_raw(i32::try_from(number).map_err(io::Error::other)?))),
    }
}

/// Puts all layers on and becomes the driver. Never comes back: where a layer fails, the control channel says which.
pub(crate) fn become_python(
    ground: &Ground,
    limits: &Limits,
    control: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> ! {
    let done = || -> Step<Infallible> {
        nix::unistd::dup2_stdin(&control).map_err(failed("launcher"))?;
        nix::unistd::dup2_stdout(&stdout).map_err(failed("launcher"))?;
        nix::unistd::dup2_stderr(&stderr).map_err(failed("launcher"))?;
        put_on(ground, limits)?;
        exec(ground, limits)
    };
    let code = match done() {
        Ok(never) => match never {},
        Err((layer, message)) => {
            // As a file: writing to a socket is a call of its own, which the filter refuses.
            let text = format!("{NO_LAYER} {layer}: {message}");
            let _ = write_frame(&mut File::from(OwnedFd::from(control)), text.as_bytes());
            1
        }
    };
    // Not std::process::exit, which would run what the launcher left for its own end.
    die(code)
}

#[expect(clippy::exit, reason = "a forked process that must not return into its caller")]
pub(crate) fn die(code: i32) -> ! {
    std::process::exit(code)
}

/// A layer that failed, and how.
pub(crate) type Step<T> = Result<T, (String, String)>;

fn failed<E: std::fmt::Display>(layer: impl ToString) -> impl FnOnce(E) -> (String, String) {
    let layer = layer.to_string();
    move |error| (layer, error.to_string())
}

/// All layers but the last, in the only order in which each is still possible.
pub(crate) fn put_on(ground: &Ground, limits: &Limits) -> Step<Option<RestrictionStatus>> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0700,uid={USER},gid={USER},size={},nr_inodes=1024", limits.folder_size);
    mount(Some("work"), tree::WORK, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(failed(Layer::ReadOnly))?;
    setsid().map_err(failed("launcher"))?;
    resources(limits).map_err(failed(Layer::ResourceLimits))?;
    user(ground.two).map_err(failed(Layer::Capabilities))?;
    // The launcher's end is the end of everything. After the change of user, which resets it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("launcher"))?;
    prctl::set_no_new_privs().map_err(failed(Layer::NoNewPrivileges))?;
    chdir(tree::WORK).map_err(failed(Layer::ReadOnly))?;
    let status = match ground.start.without_landlock {
        true => None,
        false => Some(landlock(&ground.start.python.executable, &ground.start.python.folders()))
            .transpose()
            .map_err(failed(Layer::Landlock))?,
    };
    Ok(status)
}

/// The last layers, after which little is possible: the system call filter, and the limit of memory, which the libraries
/// of the launcher's own program may be above already.
pub(crate) fn seal(ground: &Ground, limits: &Limits) -> Step<()> {
    for filter in ground.filters.iter().flatten() {
        seccompiler::apply_filter(filter).map_err(failed(Layer::SystemCalls))?;
    }
    setrlimit(Resource::RLIMIT_AS, limits.memory, limits.memory).map_err(failed(Layer::ResourceLimits))
}

/// What the kernel is asked to keep to, as pairs for setrlimit.
pub(crate) fn resource_limits(limits: &Limits) -> [(Resource, u64); 7] {
    // Beside the tested code, the checking process and, where there is one user only, the launcher are counted.
    let processes = limits.processes + 2;
    [
        (Resource::RLIMIT_CPU, limits.cpu_seconds),
        (Resource::RLIMIT_NPROC, processes),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ]
}

fn resources(limits: &Limits) -> nix::Result<()> {
    for (resource, value) in resource_limits(limits) {
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

/// Becomes the ordinary user and gives up every capability, for good.
fn user(two: bool) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The kernel knows fewer than 64 and refuses the rest.
        if rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    if two {
        setgroups(&[])?;
        let group = Gid::from_raw(USER);
        setresgid(group, group, group)?;
        let user = Uid::from_raw(USER);
        setresuid(user, user, user)?;
    }
    rustix::thread::clear_ambient_capability_set()?;
    let empty = CapabilitySet::empty();
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}

/// The loaders of programs, as their own headers name them.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// Files by Landlock: reading where the tree has something, writing in the working folder, and no program but Python.
fn landlock(python: &Path, folders: &[std::path::PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    // The newest version that this was written against; an older kernel does what it can, and says so.
    let abi = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = AccessFs::ReadFile | AccessFs::Execute;
    let write = AccessFs::from_all(abi) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut rules: Vec<(&Path, landlock::BitFlags<AccessFs>)> = Vec::new();
    let system = ["/usr", "/lib", "/lib64", "/lib32", "/etc"].map(Path::new);
    rules.extend(
        system.into_iter().chain(folders.iter().map(|folder| folder.as_path())).map(|path| (path, read)),
    );
    rules.push((Path::new(tree::DRIVER), AccessFs::ReadFile.into()));
    rules.push((Path::new(tree::WORK), write));
    rules.push((Path::new("/dev/null"), device));
    rules.push((Path::new("/dev/zero"), AccessFs::ReadFile.into()));
    rules.push((Path::new("/dev/urandom"), AccessFs::ReadFile.into()));
    rules.extend(LOADERS.map(Path::new).into_iter().chain([python]).map(|path| (path, run)));
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for (path, access) in rules {
        // Not every machine has every one of them.
        if let Ok(opened) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    ruleset.restrict_self()
}

fn exec(ground: &Ground, limits: &Limits) -> Step<Infallible> {
    let python = &ground.start.python.executable;
    let text = |bytes: &[u8]| CString::new(bytes).map_err(failed("launcher"));
    let path = text(python.as_os_str().as_bytes())?;
    let arguments = [path.clone(), text(b"-S")?, text(b"-s")?, text(b"-B")?, text(tree::DRIVER.as_bytes())?];
    // The same order of sets and dictionaries in every run.
    let environment =
        [c"PYTHONHASHSEED=0", c"LC_ALL=C.UTF-8", c"HOME=/work", c"TMPDIR=/work", c"PATH=/usr/bin"];
    let environment: [&CStr; 5] = environment;
    seal(ground, limits)?;
    execve(&path, &arguments, &environment).map_err(|error| ("python".to_owned(), error.to_string()))
}
