//! A single file of tensors, such as the tensors of a training checkpoint or logits for comparison.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::copy::{Watch, with_engine};
use crate::error::{Error, Result};
use crate::plan;
use crate::tensor::Tensor;
use crate::writer::Written;

/// Writes tensors and string metadata into one safetensors file, which appears whole or not at all, with mode
/// 0644; an existing file of that name is replaced. The same input gives the same bytes.
pub fn write_tensor_file(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: Vec<Tensor<'_>>,
) -> Result<Written> {
    let fail = |e| Error::io("write", path, e);
    let plan = plan::single(path, metadata, tensors)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(parent);
    let file = file.map_err(|e| Error::io("create", path, e))?;
    let watch = Watch { progress: &|_| {}, cancel: None, out: path };
    let ((), digests) = with_engine(watch, |engine| engine.write(path, file.as_file(), &plan, &|_| {}))?;
    file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(fail)?;
    Ok(Written { digests, bytes: plan.size, resumed: 0 })
}
