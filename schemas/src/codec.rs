//! Avro's binary encoding (specification 1.12, "Binary Encoding") for the types that the schemas use.
//!
//! Text and bytes are borrowed from the input. Lengths are checked against what is left of the input before anything
//! is allocated, so that memory is bounded by the size of the message, whatever it claims.

use std::borrow::Cow;

use uuid::Uuid;

/// Text that is borrowed where it can be.
pub type Text<'a> = Cow<'a, str>;

/// Writes a value as Avro.
pub trait Encode {
    /// Appends the value's Avro encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Reads a value from Avro.
pub trait Decode<'a>: Sized {
    /// Reads one value from the front of `input`.
    ///
    /// # Errors
    /// Where the bytes are not such a value; `input` is then of no further use.
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError>;
}

/// Why bytes are not the value they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// A variable-length integer is longer than 64 bits.
    #[error("an integer is longer than 64 bits")]
    IntegerOverflow,
    /// A length or count is negative or larger than what is left of the message.
    #[error("a length is negative or larger than the rest of the message")]
    BadLength,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// An enum or union index has no such branch.
    #[error("index {0} names no branch of its enum or union")]
    BadBranch(i64),
    /// A boolean is neither 0 nor 1.
    #[error("a boolean is neither 0 nor 1")]
    BadBoolean,
    /// Bytes are left after the record.
    #[error("{0} bytes are left after the record")]
    TrailingBytes(usize),
}

/// What is left to read of a message.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, DecodeError> {
        // Most take one byte: branches of unions, lengths of text.
        match self.0.split_first() {
            Some((first, rest)) if *first < 0x80 => {
                self.0 = rest;
                Ok(unzigzag(u64::from(*first)))
            }
            _ => self.long_of_several_bytes(),
        }
    }

    fn long_of_several_bytes(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::IntegerOverflow);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag(value));
            }
        }
        Err(DecodeError::IntegerOverflow)
    }

    #[inline]
    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = usize::try_from(self.long()?).map_err(|_| DecodeError::BadLength)?;
        if length > self.remaining() { Err(DecodeError::BadLength) } else { Ok(length) }
    }

    /// Reads the blocks of an array or a map, handing each item to `item`.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // A negative count is followed by the block's size in bytes, which only a skipping reader needs.
                self.long()?;
            }
            // Every item takes a byte at least.
            if count.unsigned_abs() > self.remaining() as u64 {
                return Err(DecodeError::BadLength);
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }
}

/// Zigzag: the sign is the lowest bit.
#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads one record that must fill `bytes` to their end.
///
/// # Errors
/// Where the bytes are not such a record, or something is left after it.
pub fn decode_all<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut input = Input::new(bytes);
    let value = T::decode(&mut input)?;
    match input.remaining() {
        0 => Ok(value),
        left => Err(DecodeError::TrailingBytes(left)),
    }
}

#[inline]
pub(crate) fn encode_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

impl Encode for i64 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        encode_long(*self, out);
    }
}

impl<'a> Decode<'a> for i64 {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        input.long()
    }
}

impl Encode for i32 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        encode_long(i64::from(*self), out);
    }
}

impl<'a> Decode<'a> for i32 {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        Self::try_from(input.long()?).map_err(|_| DecodeError::IntegerOverflow)
    }
}

impl Encode for f64 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl<'a> Decode<'a> for f64 {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let (bytes, rest) = input.0.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
        input.0 = rest;
        Ok(Self::from_le_bytes(*bytes))
    }
}

impl Encode for bool {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Decode<'a> for bool {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        match input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadBoolean),
        }
    }
}

impl Encode for Uuid {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<'a> Decode<'a> for Uuid {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let (bytes, rest) = input.0.split_first_chunk::<16>().ok_or(DecodeError::Truncated)?;
        input.0 = rest;
        Ok(Self::from_bytes(*bytes))
    }
}

impl Encode for Text<'_> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }
}

impl<'a> Decode<'a> for Text<'a> {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let length = input.length()?;
        let text = std::str::from_utf8(input.take(length)?).map_err(|_| DecodeError::NotUtf8)?;
        Ok(Cow::Borrowed(text))
    }
}

impl Encode for Cow<'_, [u8]> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }
}

impl<'a> Decode<'a> for Cow<'a, [u8]> {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let length = input.length()?;
        Ok(Cow::Borrowed(input.take(length)?))
    }
}

/// A union of null and a type, in this order.
impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => encode_long(0, out),
            Some(value) => {
                encode_long(1, out);
                value.encode(out);
            }
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    #[inline]
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        match input.long()? {
            0 => Ok(None),
            1 => T::decode(input).map(Some),
            other => Err(DecodeError::BadBranch(other)),
        }
    }
}

/// An array.
impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.is_empty() {
            encode_long(self.len() as i64, out);
            self.iter().for_each(|item| item.encode(out));
        }
        encode_long(0, out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let mut items = Vec::new();
        input.blocks(|input| {
            items.push(T::decode(input)?);
            Ok(())
        })?;
        Ok(items)
    }
}

/// A map of text to text, in the order in which it was filled or read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map<'a>(pub Vec<(Text<'a>, Text<'a>)>);

impl<'a> Map<'a> {
    /// The first value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// Adds a pair at the end; the caller keeps keys apart.
    pub fn push(&mut self, key: impl Into<Text<'a>>, value: impl Into<Text<'a>>) {
        self.0.push((key.into(), value.into()));
    }

    /// The same map, owning all of its text.
    #[must_use]
    pub fn into_owned(self) -> Map<'static> {
        Map(self.0.into_iter().map(|(key, value)| (owned(key), owned(value))).collect())
    }
}

/// The same text, owned.
#[must_use]
pub fn owned(text: Text<'_>) -> Text<'static> {
    Cow::Owned(text.into_owned())
}

impl Encode for Map<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            encode_long(self.0.len() as i64, out);
            for (key, value) in &self.0 {
                key.encode(out);
                value.encode(out);
            }
        }
        encode_long(0, out);
    }
}

impl<'a> Decode<'a> for Map<'a> {
    fn decode(input: &mut Input<'a>) -> Result<Self, DecodeError> {
        let mut pairs = Vec::new();
        input.blocks(|input| {
            pairs.push((Text::decode(input)?, Text::decode(input)?));
            Ok(())
        })?;
        Ok(Self(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_long(value, &mut out);
        out
    }

    /// The examples of the specification, "Primitive Types".
    #[test]
    fn longs_are_zigzag_varints() {
        for (value, bytes) in
            [(0, &[0x00][..]), (-1, &[0x01]), (1, &[0x02]), (-2, &[0x03]), (-64, &[0x7f]), (64, &[0x80, 0x01])]
        {
            assert_eq!(long(value), bytes);
            assert_eq!(Input::new(bytes).long(), Ok(value));
        }
        for value in [i64::MIN, i64::MAX] {
            assert_eq!(Input::new(&long(value)).long(), Ok(value));
        }
    }

    #[test]
    fn a_long_of_more_than_64_bits_is_refused() {
        assert_eq!(Input::new(&[0xff; 11]).long(), Err(DecodeError::IntegerOverflow));
        let mut nine_full_then_two = vec![0xff; 9];
        nine_full_then_two.push(0x02);
        assert_eq!(Input::new(&nine_full_then_two).long(), Err(DecodeError::IntegerOverflow));
    }

    #[test]
    fn a_claimed_length_beyond_the_message_allocates_nothing() {
        assert_eq!(decode_all::<Text>(&long(i64::MAX)), Err(DecodeError::BadLength));
        assert_eq!(decode_all::<Text>(&long(-5)), Err(DecodeError::BadLength));
        assert_eq!(decode_all::<Vec<i64>>(&long(i64::MAX)), Err(DecodeError::BadLength));
        assert_eq!(decode_all::<Map>(&long(i64::MAX)), Err(DecodeError::BadLength));
    }

    #[test]
    fn blocks_with_a_byte_size_are_read() {
        // Two items of one byte each in a block with a negative count, its size 2, then the end.
        let bytes = [0x03, 0x04, 0x02, 0x04, 0x00];
        assert_eq!(decode_all::<Vec<i64>>(&bytes), Ok(vec![1, 2]));
    }

    #[test]
    fn what_is_left_after_a_record_is_an_error() {
        assert_eq!(decode_all::<i64>(&[0x02, 0x00]), Err(DecodeError::TrailingBytes(1)));
    }
}
