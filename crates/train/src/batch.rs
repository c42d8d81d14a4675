//! From rows to the tensors of a forward pass.

use llama_pro_model::Inputs;
use llama_pro_model::loss::IGNORED;
use llama_pro_shards::Row;
use tch::{Device, Tensor};

/// Rows of one forward pass. Rows that keep the old ability stand last, so that a `narrow` finds them.
pub struct MicroBatch {
    /// Token ids `[B, T]`.
    pub ids: Tensor,
    /// Targets `[B, T]`, [`IGNORED`] where there is none.
    pub targets: Tensor,
    /// Positions `[B, T]`, or `None` when every row counts from 0.
    pub positions: Option<Tensor>,
    /// Documents `[B, T]`, or `None` when every row is one document.
    pub segments: Option<Tensor>,
    /// How many rows, at the end, keep the old ability.
    pub keep_rows: i64,
    /// Targets that count.
    pub n_targets: u64,
}

impl MicroBatch {
    /// Rows in tensors on `device`, each with whether it keeps the old ability. At least one row, all of one length.
    pub fn new(rows: &[(Row, bool)], device: Device) -> Self {
        let mut order: Vec<&(Row, bool)> = rows.iter().collect();
        order.sort_by_key(|(_, keep)| *keep); // stable: the order within each part stays
        let (b, t) = (rows.len() as i64, rows[0].0.inputs.len() as i64);
        let tensor = |get: &dyn Fn(&Row) -> Vec<i64>| {
            let flat: Vec<i64> = order.iter().flat_map(|(row, _)| get(row)).collect();
            Tensor::from_slice(&flat).view([b, t]).to_device(device)
        };
        let one_document = |row: &Row| row.segments.last().is_none_or(|&s| s == 0);
        let several = !rows.iter().all(|(row, _)| one_document(row));
        Self {
            ids: tensor(&|r| r.inputs.clone()),
            targets: tensor(&|r| r.targets.clone()),
            positions: several.then(|| tensor(&|r| r.positions.clone())),
            segments: several.then(|| tensor(&|r| r.segments.iter().map(|&s| i64::from(s)).collect())),
            keep_rows: rows.iter().filter(|(_, keep)| *keep).count() as i64,
            n_targets: rows.iter().map(|(row, _)| count_targets(row)).sum(),
        }
    }

    /// One document per row, every next token a target: what the fixtures train on.
    pub fn tokens(ids_bt: &Tensor) -> Self {
        let (b, t) = (ids_bt.size()[0], ids_bt.size()[1]);
        let ignored = Tensor::full([b, 1], IGNORED, (tch::Kind::Int64, ids_bt.device()));
        Self {
            ids: ids_bt.shallow_clone(),
            targets: Tensor::concat(&[&ids_bt.narrow(1, 1, t - 1), &ignored], 1),
            positions: None,
            segments: None,
            keep_rows: 0,
            n_targets: (b * (t - 1)) as u64,
        }
    }

    /// What the model reads.
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs { ids: &self.ids, positions: self.positions.as_ref(), segments: self.segments.as_ref() }
    }
}

fn count_targets(row: &Row) -> u64 {
    row.targets.iter().filter(|&&t| t != IGNORED).count() as u64
}
