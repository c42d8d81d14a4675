//! A SentencePiece `tokenizer.model` as far as it says how to encode: a protobuf message, read without a schema compiler.
//!
//! Field numbers are those of sentencepiece_model.proto. Fields that are not named here are passed over.

/// What the file holds.
#[derive(Debug, Default)]
pub(super) struct ModelProto {
    pub(super) pieces: Vec<Piece>,
    pub(super) trainer: Trainer,
    pub(super) normalizer: Normalizer,
}

/// A token; its id is its place.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: u64,
}

pub(super) const NORMAL: u64 = 1;
pub(super) const UNKNOWN: u64 = 2;
pub(super) const CONTROL: u64 = 3;
pub(super) const USER_DEFINED: u64 = 4;
pub(super) const UNUSED: u64 = 5;
pub(super) const BYTE: u64 = 6;

/// How the model was trained, with the format's defaults.
#[derive(Debug)]
pub(super) struct Trainer {
    pub(super) model_type: u64,
    pub(super) treat_whitespace_as_suffix: bool,
    pub(super) byte_fallback: bool,
    pub(super) bos_id: i64,
    pub(super) eos_id: i64,
}

pub(super) const BPE: u64 = 2;

impl Default for Trainer {
    fn default() -> Self {
        Self { model_type: 1, treat_whitespace_as_suffix: false, byte_fallback: false, bos_id: 1, eos_id: 2 }
    }
}

/// What happens to text first, with the format's defaults.
#[derive(Debug)]
pub(super) struct Normalizer {
    pub(super) name: String,
    /// A table of replacements is there.
    pub(super) replaces: bool,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

impl Default for Normalizer {
    fn default() -> Self {
        Self {
            name: String::new(),
            replaces: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

type Read<T> = Result<T, String>;

impl ModelProto {
    /// Reads the whole message, or says what is wrong in words for the user.
    pub(super) fn read(bytes: &[u8]) -> Read<Self> {
        let mut model = Self::default();
        let mut fields = Fields { bytes, at: 0 };
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => model.pieces.push(piece(bytes, model.pieces.len())?),
                (2, Value::Bytes(bytes)) => trainer(bytes, &mut model.trainer)?,
                (3, Value::Bytes(bytes)) => normalizer(bytes, &mut model.normalizer)?,
                _ => {}
            }
        }
        Ok(model)
    }
}

fn piece(bytes: &[u8], id: usize) -> Read<Piece> {
    let mut piece = Piece { kind: NORMAL, ..Piece::default() };
    let mut fields = Fields { bytes, at: 0 };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("piece {id} is not UTF-8"))?;
                text.clone_into(&mut piece.text);
            }
            (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Value::Number(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    Ok(piece)
}

fn trainer(bytes: &[u8], trainer: &mut Trainer) -> Read<()> {
    let mut fields = Fields { bytes, at: 0 };
    while let Some(field) = fields.next()? {
        match field {
            (3, Value::Number(kind)) => trainer.model_type = kind,
            (24, Value::Number(yes)) => trainer.treat_whitespace_as_suffix = yes != 0,
            (35, Value::Number(yes)) => trainer.byte_fallback = yes != 0,
            // Negative numbers are ten bytes of two's complement; -1 is none.
            (41, Value::Number(id)) => trainer.bos_id = id.cast_signed(),
            (42, Value::Number(id)) => trainer.eos_id = id.cast_signed(),
            _ => {}
        }
    }
    Ok(())
}

fn normalizer(bytes: &[u8], normalizer: &mut Normalizer) -> Read<()> {
    let mut fields = Fields { bytes, at: 0 };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(name)) => normalizer.name = String::from_utf8_lossy(name).into_owned(),
            (2, Value::Bytes(table)) => normalizer.replaces = !table.is_empty(),
            (3, Value::Number(yes)) => normalizer.add_dummy_prefix = yes != 0,
            (4, Value::Number(yes)) => normalizer.remove_extra_whitespaces = yes != 0,
            (5, Value::Number(yes)) => normalizer.escape_whitespaces = yes != 0,
            _ => {}
        }
    }
    Ok(())
}

/// The fields of one message, in their order.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Value<'a> {
    Number(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field here has.
    Fixed64,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Read<Option<(u64, Value<'a>)>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.number()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Value::Fixed32(u32::from_le_bytes(bits))
            }
            other => return Err(format!("a field of wire type {other} before byte {}", self.at)),
        };
        Ok(Some((key >> 3, value)))
    }

    fn number(&mut self) -> Read<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            if shift < 64 {
                number |= u64::from(byte & 127) << shift;
            }
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(format!("a number of more than ten bytes before byte {}", self.at))
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
        let length =
            length.ok_or_else(|| format!("a field that ends behind the message, at byte {}", self.at))?;
        self.at += length;
        Ok(&rest[..length])
    }
}
