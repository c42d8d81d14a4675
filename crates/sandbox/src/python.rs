//! The Python interpreter: where it lies, what of the file system it needs, and the driver compiled for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The Python side of the sandbox.
pub(crate) const DRIVER: &str = include_str!("driver.py");

/// Asks the interpreter about itself, and compiles the driver that stands in the last argument: compiling it for each
/// program would cost more than the program.
const QUESTION: &str = r#"
import importlib.util, json, marshal, os, sys
real = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
prefixes = sorted({os.path.realpath(p) for p in (sys.base_prefix, sys.base_exec_prefix)})
code = marshal.dumps(compile(sys.argv[1], "driver", "exec", dont_inherit=True, optimize=0))
code = importlib.util.MAGIC_NUMBER + bytes(12) + code
print(json.dumps({"executable": real, "prefixes": prefixes, "version": list(sys.version_info[:2]), "driver": list(code)}))
"#;

/// An interpreter that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Interpreter {
    /// The program itself, no link and no wrapper.
    pub(crate) executable: PathBuf,
    /// The folders of its standard library and shared objects.
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) version: (u32, u32),
    /// The driver as a .pyc file of this version.
    pub(crate) driver: Vec<u8>,
}

impl Interpreter {
    /// Asks the Python of this name or path.
    ///
    /// # Errors
    /// It does not start, does not answer, or is older than 3.8.
    pub(crate) fn ask(python: &Path) -> Result<Self> {
        let wrong = |message: String| Error::Python { python: python.to_path_buf(), message };
        let mut command = Command::new(python);
        command.args(["-I", "-S", "-c", QUESTION, DRIVER]).stdin(Stdio::null());
        let output = command.output().map_err(|error| wrong(format!("cannot be started: {error}")))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.trim_end().lines().last().unwrap_or("it says nothing");
            return Err(wrong(format!("is no Python 3 that works: {last}")));
        }
        let found: Self = serde_json::from_slice(&output.stdout)
            .map_err(|error| wrong(format!("gives an answer that cannot be read: {error}")))?;
        if found.version < (3, 8) {
            let (major, minor) = found.version;
            return Err(wrong(format!("is Python {major}.{minor}; expected 3.8 or newer")));
        }
        if let Some(prefix) = found.prefixes.iter().find(|prefix| prefix.parent().is_none()) {
            return Err(wrong(format!("is installed under {}, which is all files", prefix.display())));
        }
        Ok(found)
    }

    /// What a sandboxed program must be able to read besides the system's libraries.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = self.prefixes.clone();
        if !folders.iter().any(|prefix| self.executable.starts_with(prefix)) {
            folders.extend(self.executable.parent().map(Path::to_path_buf));
        }
        folders.retain(|folder| !folder.starts_with("/usr"));
        folders
    }
}
