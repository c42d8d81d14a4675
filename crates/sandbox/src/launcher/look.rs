//! The probe: a process with all layers on looks around and says of each what it sees. It never starts Python.

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use landlock::RulesetStatus;
use nix::sys::prctl;
use nix::sys::resource::getrlimit;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Uid, geteuid, gethostname, getpid, getppid, setresuid};

use super::child::{self, Step, USER, resource_limits};
use super::{Ground, Stop, tree};
use crate::probe::{Layer, LayerReport};
use crate::program::Limits;
use crate::wire::{read_frame, write_frame};

/// Starts the process that looks, and gives back what it says.
pub(crate) fn look(ground: &Ground) -> Result<Vec<LayerReport>, Stop> {
    let (mut control, inner) = UnixStream::pair().map_err(Stop::at("launcher", "pipe"))?;
    let Some(child) = child::clone().map_err(Stop::at(Layer::Processes, "clone"))? else {
        drop(control);
        let answer = match reports(ground) {
            Ok(reports) => serde_json::to_vec(&reports).unwrap_or_default(),
            Err((layer, message)) => serde_json::to_vec(&(layer, message)).unwrap_or_default(),
        };
        // As a file: writing to a socket is a call of its own, which the filter refuses.
        let _ = write_frame(&mut File::from(OwnedFd::from(inner)), &answer);
        child::die(0);
    };
    drop(inner);
    let answer = read_frame(&mut control);
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    let answer = answer.map_err(Stop::at("launcher", "the probe"))?.unwrap_or_default();
    if let Ok((layer, message)) = serde_json::from_slice::<(String, String)>(&answer) {
        return Err(Stop::Layer { layer, message });
    }
    serde_json::from_slice(&answer).map_err(Stop::at("launcher", "the probe"))
}

/// Whether something was refused, and with what.
fn refused<T>(attempt: io::Result<T>) -> (bool, String) {
    match attempt {
        Ok(_) => (false, "allowed".to_owned()),
        Err(error) => (true, error.to_string()),
    }
}

fn reports(ground: &Ground) -> Step<Vec<LayerReport>> {
    let limits = Limits::default();
    let status = child::put_on(ground, &limits)?;
    let mut reports = Vec::new();
    let mut report = |layer, holds, detail: String| reports.push(LayerReport { layer, holds, detail });

    let (fails, why) =
        refused(setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).map_err(Into::into));
    let user = geteuid().as_raw();
    report(Layer::Users, user == USER && fails, format!("user {user}; becoming root: {why}"));

    let found = fs::read_dir("/").map_err(|error| (Layer::Files.to_string(), error.to_string()));
    let mut strange = Vec::new();
    // Landlock may hide the listing of the root, which is as good.
    for name in found.into_iter().flatten().flatten().map(|entry| entry.file_name()) {
        let name = name.to_string_lossy().into_owned();
        let known = [
            "usr",
            "bin",
            "sbin",
            "lib",
            "lib32",
            "lib64",
            "dev",
            "etc",
            "work",
            "tmp",
            "empty",
            "driver.pyc",
        ];
        let python = ground.start.python.folders();
        let prefix = python.iter().any(|folder| folder.starts_with(Path::new("/").join(&name)));
        if !known.contains(&name.as_str()) && !prefix {
            strange.push(name);
        }
    }
    let hidden = ["/proc/self", "/sys/kernel", "/etc/shadow", "/home", "/var"];
    strange.extend(hidden.into_iter().filter(|path| Path::new(path).exists()).map(str::to_owned));
    let detail = if strange.is_empty() { "only Python and libraries".to_owned() } else { strange.join(", ") };
    report(Layer::Files, strange.is_empty(), detail);

    let (fails, why) = refused(fs::write("/probe", "x"));
    let works = fs::write(Path::new(tree::WORK).join("probe"), "x").is_ok();
    let detail = format!("writing to /: {why}; the working folder {}", if works { "works" } else { "FAILS" });
    report(Layer::ReadOnly, fails && works, detail);

    let (own, parent) = (getpid().as_raw(), getppid().as_raw());
    report(Layer::Processes, own == 1 && parent == 0, format!("process {own} of its namespace"));

    let outside = || UdpSocket::bind("0.0.0.0:0")?.connect("192.0.2.1:9");
    let (fails, why) = refused(outside());
    report(Layer::Network, fails, format!("a way to another machine: {why}"));
    // The launcher could not have come here without it, and its file in /proc is out of sight now.
    report(Layer::Ipc, true, "unshared for each program".to_owned());
    let name = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    report(Layer::HostName, name == "sandbox", format!("host name \"{name}\""));

    let set = prctl::get_no_new_privs().unwrap_or(false);
    report(Layer::NoNewPrivileges, set, if set { "set" } else { "not set" }.to_owned());
    let none = rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty()
    });
    report(Layer::Capabilities, none, if none { "none left" } else { "some left" }.to_owned());

    let wrong: Vec<String> = resource_limits(&limits)
        .into_iter()
        .filter(|(resource, value)| getrlimit(*resource).ok() != Some((*value, *value)))
        .map(|(resource, _)| format!("{resource:?}"))
        .collect();
    let detail =
        if wrong.is_empty() { "as asked".to_owned() } else { format!("not set: {}", wrong.join(", ")) };
    report(Layer::ResourceLimits, wrong.is_empty(), detail);

    let (holds, detail) = match status.map(|status| status.ruleset) {
        Some(RulesetStatus::FullyEnforced) => (true, "fully enforced"),
        Some(RulesetStatus::PartiallyEnforced) => (true, "enforced as far as this kernel knows it"),
        Some(RulesetStatus::NotEnforced) => (false, "this kernel has none"),
        None => (false, "left out"),
    };
    report(Layer::Landlock, holds, detail.to_owned());

    // Last, since nothing above could be asked any more.
    let before = UnixStream::pair().is_ok();
    child::seal(ground, &limits)?;
    let (fails, why) = refused(UnixStream::pair());
    report(Layer::SystemCalls, before && fails, format!("a socket: {why}"));
    Ok(reports)
}
