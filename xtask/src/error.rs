//! How a failure becomes an exit code: the user's mistake 2, a child's own code, anything else 1.

use std::fmt;
use std::process::ExitStatus;

/// A failure whose exit code is not simply 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The user gave something that cannot work; one line says what.
    Usage(String),
    /// A child failed and has said why; its code is passed on.
    Child(u8),
}

impl Exit {
    /// The failure of a child. Death by signal N becomes 128 + N, as shells have it.
    pub(crate) fn child(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Self::Child(u8::try_from(code).unwrap_or(1))
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Child(code) => *code,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Child(code) => write!(f, "a child process ended with code {code}"),
        }
    }
}

impl std::error::Error for Exit {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn codes_of_children_are_passed_on() {
        assert_eq!(Exit::child(ExitStatus::from_raw(101 << 8)), Exit::Child(101));
        assert_eq!(Exit::child(ExitStatus::from_raw(9)), Exit::Child(137));
        assert_eq!(Exit::Usage(String::new()).code(), 2);
    }
}
