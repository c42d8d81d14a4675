//! Exit codes and the one line that explains them.

use llama_pro_train::Error as Train;

/// A check that ran to its end and failed: exit code 1, as opposed to input that could not be used.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// 1 for a run or check that failed, 2 for input that cannot be used.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let failed = error.chain().any(|cause| {
        cause.is::<Failed>()
            || matches!(
                cause.downcast_ref::<Train>(),
                Some(Train::NonFinite { .. } | Train::Torch(_) | Train::FrozenChanged(_))
            )
            || matches!(cause.downcast_ref::<llama_pro_model::Error>(), Some(llama_pro_model::Error::Torch(_)))
            || cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
    });
    if failed { 1 } else { 2 }
}

/// The chain of an error in one line, without repeating what an outer message already quotes.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        if !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
    }
    line
}

/// A panic is a defect of ours: it says so in one line. libtorch's exceptions arrive as panics of tch inside a training
/// step, where they are caught and reported as errors, so the hook stays silent on those.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| info.payload().downcast_ref::<&str>().copied())
            .unwrap_or("");
        let text = text.lines().next().unwrap_or("");
        if text.contains("Torch(") {
            tracing::debug!("{place}: {text}");
        } else {
            eprintln!("error: internal: {text} ({place}); please report this line");
        }
    }));
}
