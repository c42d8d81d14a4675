//! The layers of isolation, and which of them hold on this machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layer {
    /// A user namespace of its own: no user of the machine, an ordinary one inside.
    Users,
    /// A mount namespace whose root holds Python, the system's libraries and nothing else.
    Files,
    /// That root cannot be written; an empty folder in memory can.
    ReadOnly,
    /// A process namespace: sees no process but its own, and all die with the first.
    Processes,
    /// A network namespace without a network.
    Network,
    /// No System V or POSIX queues and memory of others.
    Ipc,
    /// A host name of its own.
    HostName,
    /// No program gives more rights than its caller has.
    NoNewPrivileges,
    /// No capability, not even inside the namespaces.
    Capabilities,
    /// Limits of memory, processor, processes, files.
    ResourceLimits,
    /// Files once more, by the Landlock rules of the kernel.
    Landlock,
    /// Only system calls that Python needs.
    SystemCalls,
}

impl Layer {
    /// All layers, outermost first.
    pub const ALL: [Self; 12] = [
        Self::Users,
        Self::Files,
        Self::ReadOnly,
        Self::Processes,
        Self::Network,
        Self::Ipc,
        Self::HostName,
        Self::NoNewPrivileges,
        Self::Capabilities,
        Self::ResourceLimits,
        Self::Landlock,
        Self::SystemCalls,
    ];

    /// Must it hold before a program is run? Landlock guards files that the mount namespace guards already, and kernels
    /// of some distributions lack it.
    pub fn is_required(self) -> bool {
        self != Self::Landlock
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Users => "user namespace",
            Self::Files => "mount namespace",
            Self::ReadOnly => "read-only root",
            Self::Processes => "process namespace",
            Self::Network => "network namespace",
            Self::Ipc => "ipc namespace",
            Self::HostName => "host name namespace",
            Self::NoNewPrivileges => "no new privileges",
            Self::Capabilities => "capabilities dropped",
            Self::ResourceLimits => "resource limits",
            Self::Landlock => "landlock",
            Self::SystemCalls => "system call filter",
        })
    }
}

/// Whether a layer holds, seen from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer.
    pub layer: Layer,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen.
    pub detail: String,
}

/// What a process inside the sandbox found of every layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// One report for each layer that could be looked at.
    pub layers: Vec<LayerReport>,
}

impl Probe {
    /// Whether this layer holds.
    pub fn holds(&self, layer: Layer) -> bool {
        self.layers.iter().any(|report| report.layer == layer && report.holds)
    }

    /// The first layer that must hold and does not, with what was seen of it.
    pub fn missing(&self) -> Option<(Layer, String)> {
        let required = Layer::ALL.into_iter().filter(|layer| layer.is_required() && !self.holds(*layer));
        required.map(|layer| (layer, self.detail(layer))).next()
    }

    fn detail(&self, layer: Layer) -> String {
        let report = self.layers.iter().find(|report| report.layer == layer);
        report.map_or_else(|| "not looked at".to_owned(), |report| report.detail.clone())
    }
}

impl fmt::Display for Probe {
    /// One line for each layer.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, report) in self.layers.iter().enumerate() {
            let word = if report.holds { "holds" } else { "MISSING" };
            let end = if i + 1 < self.layers.len() { "\n" } else { "" };
            write!(formatter, "{:<22} {word:<8} {}{end}", report.layer.to_string(), report.detail)?;
        }
        Ok(())
    }
}
