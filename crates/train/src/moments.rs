//! The two moments of AdamW, as float32 or in 8 bits.
//!
//! Eight bits are those of block-wise dynamic quantization (arXiv 2110.02861): 256 numbers share a float32 scale, and each
//! is one of 256 values whose spacing grows with their size, over seven decades. A second moment has no sign, so its
//! values lie twice as dense. Two things differ from the paper. The scale is the number of largest magnitude with its
//! sign, so that this number is exact and what was read is written back as the same codes: a checkpoint in float32 loses
//! nothing. And a second moment that is not zero never becomes zero: the update divides by its root.

use llama_pro_torch_ext::{AdamwParams, fused_adamw};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::Result;

/// How the moments of the optimizer are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentKind {
    /// float32: 8 bytes per trained weight.
    #[default]
    #[serde(rename = "f32")]
    Float32,
    /// Block-wise 8 bits: 2.03 bytes per trained weight.
    #[serde(rename = "8bit")]
    Eight,
}

/// Numbers that share a scale.
pub(crate) const BLOCK: i64 = 256;

/// Numbers that exist in float32 at a time while a step is taken. A multiple of [`BLOCK`].
const CHUNK: i64 = 1 << 22;

/// Both moments of one weight.
pub(crate) enum Moments {
    Full { first: Tensor, second: Tensor },
    Eight { first: Quantized, second: Quantized },
}

impl Moments {
    pub(crate) fn zeros(kind: MomentKind, shape: &[i64], device: Device) -> Self {
        match kind {
            MomentKind::Float32 => {
                let zeros = || Tensor::zeros(shape, (Kind::Float, device));
                Self::Full { first: zeros(), second: zeros() }
            }
            MomentKind::Eight => {
                let n = shape.iter().product();
                Self::Eight {
                    first: Quantized::zeros(Map::signed(device), n),
                    second: Quantized::zeros(Map::unsigned(device), n),
                }
            }
        }
    }

    /// In float32, of the shape of the weight: what a checkpoint holds. Those that are kept so are not copied.
    pub(crate) fn read(&self, shape: &[i64]) -> [Tensor; 2] {
        match self {
            Self::Full { first, second } => [first.shallow_clone(), second.shallow_clone()],
            Self::Eight { first, second } => [first.read_all().view(shape), second.read_all().view(shape)],
        }
    }

    /// The first moment or the second, in float32, as [`Moments::read`] gives both.
    pub(crate) fn read_one(&self, second: bool, shape: &[i64]) -> Tensor {
        match self {
            Self::Full { first, second: other } => if second { other } else { first }.shallow_clone(),
            Self::Eight { first, second: other } => if second { other } else { first }.read_all().view(shape),
        }
    }

    /// The same moments over what `take` makes of each tensor: another view of it, or a copy on the CPU.
    pub(crate) fn map(&self, take: &dyn Fn(&Tensor) -> Tensor) -> Self {
        match self {
            Self::Full { first, second } => Self::Full { first: take(first), second: take(second) },
            Self::Eight { first, second } => Self::Eight { first: first.map(take), second: second.map(take) },
        }
    }

    /// Takes back what [`Moments::read`] gave.
    pub(crate) fn write(&mut self, [from_first, from_second]: [&Tensor; 2]) {
        match self {
            Self::Full { first, second } => {
                first.copy_(from_first);
                second.copy_(from_second);
            }
            Self::Eight { first, second } => {
                first.write(0, &from_first.reshape([-1]));
                second.write(0, &from_second.reshape([-1]));
            }
        }
    }

    /// Bytes of both.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |t: &Tensor| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64;
        match self {
            Self::Full { first, second } => of(first) + of(second),
            Self::Eight { first, second } => {
                of(&first.codes) + of(&first.scales) + of(&second.codes) + of(&second.scales)
            }
        }
    }

    /// A step of AdamW on a weight whose moments are 8 bits, part by part. `count` is the step that is taken, from 1.
    pub(crate) fn step(
        &mut self,
        master: &Tensor,
        grad: &Tensor,
        count: &Tensor,
        params: AdamwParams,
    ) -> Result<()> {
        let Self::Eight { first, second } = self else { return Ok(()) };
        let (master, grad) = (master.view([-1]), grad.reshape([-1]));
        let n = master.numel() as i64;
        for from in (0..n).step_by(CHUNK as usize) {
            let length = CHUNK.min(n - from);
            let (m, v) = (first.read(from, length), second.read(from, length));
            let part = |t: &Tensor| t.narrow(0, from, length);
            fused_adamw(
                &[part(&master)],
                &[part(&grad)],
                &[m.shallow_clone()],
                &[v.shallow_clone()],
                &[count.shallow_clone()],
                params,
            )?;
            first.write(from, &m);
            second.write(from, &v);
        }
        Ok(())
    }
}

/// Numbers in 8 bits: a code each, a scale for every [`BLOCK`].
pub(crate) struct Quantized {
    map: Map,
    /// `[n]`, uint8.
    codes: Tensor,
    /// `[ceil(n / BLOCK)]`, float32.
    scales: Tensor,
}

impl Quantized {
    fn zeros(map: Map, n: i64) -> Self {
        let device = map.values.device();
        let codes = Tensor::full([n], map.zero, (Kind::Uint8, device));
        let scales = Tensor::zeros([(n + BLOCK - 1) / BLOCK], (Kind::Float, device));
        Self { map, codes, scales }
    }

    fn map(&self, take: &dyn Fn(&Tensor) -> Tensor) -> Self {
        let (codes, scales) = (take(&self.codes), take(&self.scales));
        let shared = |table: &Tensor| table.to_device(codes.device());
        let (values, borders) = (shared(&self.map.values), shared(&self.map.borders));
        let map = Map { values, borders, zero: self.map.zero };
        Self { map, codes, scales }
    }

    /// `length` numbers from `from`, a multiple of [`BLOCK`], in float32.
    fn read(&self, from: i64, length: i64) -> Tensor {
        let codes = self.codes.narrow(0, from, length).to_kind(Kind::Int64);
        let values = padded(&self.map.values.index_select(0, &codes));
        let scales = self.scales.narrow(0, from / BLOCK, values.size()[0]).unsqueeze(1);
        (values * scales).view([-1]).narrow(0, 0, length)
    }

    /// All of them, never more than a part of the codes unpacked.
    fn read_all(&self) -> Tensor {
        let n = self.codes.numel() as i64;
        let parts: Vec<Tensor> =
            (0..n).step_by(CHUNK as usize).map(|from| self.read(from, CHUNK.min(n - from))).collect();
        Tensor::concat(&parts, 0)
    }

    /// Puts `[length]` numbers in float32 at `from`, a multiple of [`BLOCK`].
    fn write(&mut self, from: i64, values: &Tensor) {
        let n = values.numel() as i64;
        for start in (0..n).step_by(CHUNK as usize) {
            let length = CHUNK.min(n - start);
            // What a checkpoint gives back lies on the CPU.
            let part = values.narrow(0, start, length).to_device(self.codes.device());
            let blocks = padded(&part);
            let (high, low) = (blocks.amax([1], false), blocks.amin([1], false));
            let scales = high.where_self(&(&high + &low).ge(0.0), &low);
            // A block of zeros has the scale 0.
            let divisors = scales.where_self(&scales.ne(0.0), &scales.ones_like());
            let shares = &blocks / divisors.unsqueeze(1);
            let codes = shares.bucketize(&self.map.borders, true, false);
            let mut codes = codes.to_kind(Kind::Uint8).view([-1]).narrow(0, 0, length);
            if self.map.is_unsigned() {
                codes = codes.where_self(&part.eq(0.0), &codes.clamp_min(1));
            }
            self.codes.narrow(0, from + start, length).copy_(&codes);
            self.scales.narrow(0, (from + start) / BLOCK, scales.numel() as i64).copy_(&scales);
        }
    }
}

/// `[n]` in rows of [`BLOCK`], zeros at the end.
fn padded(values: &Tensor) -> Tensor {
    let n = values.numel() as i64;
    let missing = (BLOCK - n % BLOCK) % BLOCK;
    values.constant_pad_nd([0, missing]).view([-1, BLOCK])
}

/// The values that a code can have, in order, as shares of the scale.
struct Map {
    /// `[256]`.
    values: Tensor,
    /// `[255]`, half way between neighbours.
    borders: Tensor,
    /// The code of 0.
    zero: i64,
}

impl Map {
    fn signed(device: Device) -> Self {
        let magnitudes = dynamic(0);
        Self::of(magnitudes.iter().map(|x| -x).chain(magnitudes.iter().copied()).chain([0.0, 1.0]), device)
    }

    fn unsigned(device: Device) -> Self {
        Self::of(dynamic(1).into_iter().chain([0.0, 1.0]), device)
    }

    fn of(values: impl Iterator<Item = f64>, device: Device) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let zero = values.iter().position(|x| *x == 0.0).unwrap_or_default() as i64;
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        let borders: Vec<f32> = values.windows(2).map(|pair| pair[0].midpoint(pair[1])).collect();
        let tensor = |list: &[f32]| Tensor::from_slice(list).to_device(device);
        Self { borders: tensor(&borders), values: tensor(&values), zero }
    }

    fn is_unsigned(&self) -> bool {
        self.zero == 0
    }
}

/// Dynamic magnitudes below 1: for each of seven decades, from the smallest, twice as many as for the one before, the
/// middles of equal steps from a tenth of the decade's end to it. `more` bits are gained by having no sign.
fn dynamic(more: u32) -> Vec<f64> {
    const DECADES: u32 = 7;
    let mut all = Vec::new();
    for decade in 0..DECADES {
        let steps = 1u32 << (decade + more);
        let end = 10f64.powi(decade as i32 + 1 - DECADES as i32);
        let step = 0.9 / f64::from(steps);
        all.extend((0..steps).map(|i| end * (0.1 + step * (f64::from(i) + 0.5))));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(map: &Map) -> Vec<f32> {
        Vec::<f32>::try_from(&map.values).unwrap_or_default()
    }

    /// Numbers of many sizes; the first block is zeros but for one, the last is short.
    fn sample(n: i64, positive: bool) -> Tensor {
        let opts = (Kind::Float, Device::Cpu);
        let sizes = Tensor::rand([n], opts) * -6.0;
        let x = Tensor::randn([n], opts) * Tensor::from(10.0).pow(&sizes);
        let _ = x.narrow(0, 0, 200).zero_();
        if positive { x.abs() } else { x }
    }

    #[test]
    fn there_are_256_different_values_from_minus_one_to_one() {
        for (map, least) in [(Map::signed(Device::Cpu), -0.9930), (Map::unsigned(Device::Cpu), 0.0)] {
            let values = values(&map);
            assert_eq!((values.len(), map.borders.numel()), (256, 255));
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
            assert!((values[0] - least).abs() < 1e-3 && values[255] == 1.0, "{} {}", values[0], values[255]);
            assert!(values[map.zero as usize] == 0.0);
        }
    }

    /// Every number becomes the nearest of the 256, found by trying them all.
    #[test]
    fn codes_are_the_nearest_and_are_kept_by_a_round_trip() {
        for positive in [false, true] {
            let map = || if positive { Map::unsigned(Device::Cpu) } else { Map::signed(Device::Cpu) };
            let n = 5 * BLOCK + 17;
            let x = sample(n, positive);
            let mut q = Quantized::zeros(map(), n);
            q.write(0, &x);
            let read = q.read_all();
            let (x, got): (Vec<f32>, Vec<f32>) = (Vec::try_from(&x).unwrap(), Vec::try_from(&read).unwrap());
            let all = values(&map());
            for (block, got) in x.chunks(BLOCK as usize).zip(got.chunks(BLOCK as usize)) {
                let scale = block.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
                for (x, got) in block.iter().zip(got) {
                    let allowed = all.iter().filter(|v| !(positive && *x != 0.0) || **v != 0.0);
                    let nearest = allowed.map(|v| (v * scale - x).abs()).fold(f32::INFINITY, f32::min);
                    assert!(
                        (got - x).abs() <= nearest + 1e-6 * scale.abs(),
                        "{x} became {got}, scale {scale}"
                    );
                    assert!(*x == 0.0 || !positive || *got > 0.0, "{x} became {got}");
                }
            }
            let codes = q.codes.copy();
            let scales = q.scales.copy();
            q.write(0, &read);
            assert!(q.codes.equal(&codes) && q.scales.equal(&scales), "what is read is written as it was");
        }
    }

    /// Part by part is what the whole would be: parts end where blocks do.
    #[test]
    fn a_step_changes_weights_nearly_as_float32_does() {
        let n = 3 * BLOCK + 5;
        let opts = (Kind::Float, Device::Cpu);
        // Made once: other tests draw from the same generator meanwhile.
        let start = Tensor::randn([n], opts);
        let noise = Tensor::randn([30, n], opts);
        let params = AdamwParams { learning_rate: 1e-2, betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
        let mut after = Vec::new();
        for kind in [MomentKind::Float32, MomentKind::Eight] {
            let weight = start.copy();
            let mut moments = Moments::zeros(kind, &[n], Device::Cpu);
            for step in 0..30 {
                let grad = &weight * 0.3 + noise.get(step);
                let count = Tensor::full([], step as f64 + 1.0, opts);
                match &moments {
                    Moments::Full { first, second } => fused_adamw(
                        &[weight.shallow_clone()],
                        &[grad],
                        &[first.shallow_clone()],
                        &[second.shallow_clone()],
                        &[count],
                        params,
                    )
                    .unwrap(),
                    Moments::Eight { .. } => moments.step(&weight, &grad, &count, params).unwrap(),
                }
            }
            after.push(weight);
        }
        let moved = (&after[0] - &start).norm().double_value(&[]);
        let apart = (&after[0] - &after[1]).norm().double_value(&[]);
        assert!(apart > 0.0 && apart < 0.05 * moved, "{apart} apart after moving {moved}");
    }
}
