//! tch panics where libtorch throws, and out of memory can come from any operation. [`guarded`] turns that panic into an
//! error at the boundaries: a forward pass, a training step, an export.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });

/// Runs `body` and returns libtorch's exception as the error that `failed` makes of its first line.
///
/// # Errors
/// Those of `body`, and a panic in it.
pub fn guarded<T, E>(failed: impl FnOnce(String) -> E, body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown failure");
        Err(failed(first_line(text)))
    })
}

/// Whether a panic on this thread would be caught and reported by [`guarded`]: a panic hook may then stay silent.
pub fn is_guarded() -> bool {
    DEPTH.get() > 0
}

/// What libtorch said, without the C++ backtrace that it appends. tch panics with the error in Debug form, in which a
/// line break is written as two characters.
fn first_line(text: &str) -> String {
    let text = text.split_once("Torch(\"").map_or(text, |(_, rest)| rest);
    let end = [text.find("\\n"), text.find('\n')].into_iter().flatten().min().unwrap_or(text.len());
    text[..end].trim_end_matches("\")").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_of_libtorch_becomes_one_line() {
        let caught = guarded(
            |line| line,
            || {
                assert!(is_guarded());
                let _ = tch::Tensor::zeros([2, 3], tch::kind::FLOAT_CPU)
                    .matmul(&tch::Tensor::zeros([2, 3], tch::kind::FLOAT_CPU));
                Ok(())
            },
        );
        let line = caught.unwrap_err();
        assert!(line.starts_with("mat1 and mat2 shapes cannot be multiplied"), "{line}");
        assert!(!line.contains("frame") && !line.contains("\\n"), "{line}");
        assert!(!is_guarded());
    }

    #[test]
    fn nested_guards_keep_count() {
        let outer: Result<u8, String> = guarded(
            |l| l,
            || {
                let inner: Result<u8, String> = guarded(|l| l, || panic!("inner"));
                assert_eq!(inner.unwrap_err(), "inner");
                assert!(is_guarded());
                Ok(1)
            },
        );
        assert_eq!((outer, is_guarded()), (Ok(1), false));
    }
}
