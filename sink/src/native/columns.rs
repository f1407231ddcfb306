//! Columns of plain values.

use std::net::IpAddr;

use uuid::Uuid;

/// One column of a block while it is built.
pub trait Column: Default {
    /// What is appended, one for each row.
    type Value<'value>;

    /// The type, as ClickHouse names it.
    fn type_name() -> String;

    /// Appends the value of the next row.
    fn push(&mut self, value: Self::Value<'_>);

    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Takes out all rows; the memory stays for the next ones.
    fn clear(&mut self);

    /// Writes what stands before the data of this column and of all columns nested in it.
    fn write_prefix(&self, _out: &mut Vec<u8>) {}

    /// Writes the data of all rows. There is at least one.
    fn write_data(&self, out: &mut Vec<u8>);
}

/// A number that Native writes as its bytes, the lowest first.
pub trait Number: Copy + Default {
    /// The type, as ClickHouse names it.
    const TYPE: &'static str;

    /// Appends the bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty => $name:literal),*) => {$(
        impl Number for $number {
            const TYPE: &'static str = $name;

            #[inline]
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u16 => "UInt16", u32 => "UInt32", i32 => "Int32", i64 => "Int64", f64 => "Float64");

impl Number for bool {
    const TYPE: &'static str = "Bool";

    #[inline]
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

/// A column of numbers.
#[derive(Debug, Default)]
pub struct Numbers<N>(Vec<N>);

impl<N: Number> Column for Numbers<N> {
    type Value<'value> = N;

    fn type_name() -> String {
        N::TYPE.to_owned()
    }

    #[inline]
    fn push(&mut self, value: N) {
        self.0.push(value);
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.reserve(self.0.len() * size_of::<N>());
        self.0.iter().for_each(|number| number.write(out));
    }
}

/// A column of points in time, Unix milliseconds.
#[derive(Debug, Default)]
pub struct Timestamps(Numbers<i64>);

/// The earliest point in time that ClickHouse's DateTime64 can hold, 1900-01-01, Unix milliseconds.
pub const EARLIEST_TIMESTAMP: i64 = -2_208_988_800_000;
/// The latest, 2299-12-31 23:59:59.999, Unix milliseconds.
pub const LATEST_TIMESTAMP: i64 = 10_413_791_999_999;

impl Timestamps {
    /// The points in time of all rows, Unix milliseconds.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.0.0
    }
}

impl Column for Timestamps {
    type Value<'value> = i64;

    fn type_name() -> String {
        "DateTime64(3, 'UTC')".to_owned()
    }

    /// Appends a point in time; one that DateTime64 cannot hold becomes the nearest that it can.
    #[inline]
    fn push(&mut self, value: i64) {
        self.0.push(value.clamp(EARLIEST_TIMESTAMP, LATEST_TIMESTAMP));
    }

    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        self.0.write_data(out);
    }
}

/// A column of UUIDs: two halves of eight bytes, each with its lowest byte first.
#[derive(Debug, Default)]
pub struct Uuids(Vec<[[u8; 8]; 2]>);

impl Column for Uuids {
    type Value<'value> = Uuid;

    fn type_name() -> String {
        "UUID".to_owned()
    }

    #[inline]
    fn push(&mut self, value: Uuid) {
        let (high, low) = value.as_u64_pair();
        self.0.push([high.to_le_bytes(), low.to_le_bytes()]);
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_flattened().as_flattened());
    }
}

/// A column of addresses in the IPv6 type, in network order: IPv4 is mapped (RFC 4291, 2.5.5.2), none is `::`.
#[derive(Debug, Default)]
pub struct Addresses(Vec<[u8; 16]>);

impl Column for Addresses {
    type Value<'value> = &'value str;

    fn type_name() -> String {
        "IPv6".to_owned()
    }

    /// Appends the address that the text is; what is no address is none.
    #[inline]
    fn push(&mut self, value: &str) {
        let octets = match value.parse() {
            Ok(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
            Ok(IpAddr::V6(address)) => address.octets(),
            Err(_) => [0; 16],
        };
        self.0.push(octets);
    }

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_flattened());
    }
}

/// A column of text, each written out.
#[derive(Debug, Default)]
pub struct Texts {
    written: Vec<u8>,
    rows: usize,
}

impl Column for Texts {
    type Value<'value> = &'value str;

    fn type_name() -> String {
        "String".to_owned()
    }

    #[inline]
    fn push(&mut self, value: &str) {
        super::write_text(value, &mut self.written);
        self.rows += 1;
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn clear(&mut self) {
        self.written.clear();
        self.rows = 0;
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.written);
    }
}

/// A column whose values may be null.
#[derive(Debug, Default)]
pub struct Nullable<C> {
    nulls: Numbers<bool>,
    values: C,
}

impl<C> Column for Nullable<C>
where
    C: for<'value> Column<Value<'value>: Default>,
{
    type Value<'value> = Option<C::Value<'value>>;

    fn type_name() -> String {
        format!("Nullable({})", C::type_name())
    }

    #[inline]
    fn push(&mut self, value: Self::Value<'_>) {
        self.nulls.push(value.is_none());
        self.values.push(value.unwrap_or_default());
    }

    fn rows(&self) -> usize {
        self.nulls.rows()
    }

    fn clear(&mut self) {
        self.nulls.clear();
        self.values.clear();
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.values.write_prefix(out);
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        self.nulls.write_data(out);
        self.values.write_data(out);
    }
}
