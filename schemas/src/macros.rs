//! Records and enums, from one declaration each: the Rust type, its encoding, its decoding, and the list of names by
//! which the tests hold it against its schema.

/// Declares an Avro record. Fields are encoded in the order in which they stand, which is the schema's.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident<'a> { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name<'a> { $($(#[$doc])* pub $field: $type,)* }

        impl $name<'_> {
            /// Names of the fields, in the schema's order.
            pub const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl crate::codec::Encode for $name<'_> {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)*
            }
        }

        impl<'a> crate::codec::Decode<'a> for $name<'a> {
            #[inline]
            fn decode(input: &mut crate::codec::Input<'a>) -> Result<Self, crate::codec::DecodeError> {
                Ok(Self { $($field: crate::codec::Decode::decode(input)?,)* })
            }
        }
    };
}

/// Declares an Avro enum. Symbols are numbered in the order in which they stand, which is the schema's.
macro_rules! symbols {
    ($(#[$meta:meta])* pub enum $name:ident {
        $(#[$first_doc:meta])* $first:ident = $first_symbol:literal,
        $($(#[$doc:meta])* $variant:ident = $symbol:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[$first_doc])* #[default] $first,
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every variant, in the schema's order.
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$variant),*];

            /// The symbol, as in the schema and in ClickHouse.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { Self::$first => $first_symbol, $(Self::$variant => $symbol,)* }
            }

            /// The variant of a symbol.
            #[must_use]
            pub fn from_symbol(symbol: &str) -> Option<Self> {
                match symbol { $first_symbol => Some(Self::$first), $($symbol => Some(Self::$variant),)* _ => None }
            }
        }

        impl crate::codec::Encode for $name {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                crate::codec::encode_long(*self as i64, out);
            }
        }

        impl<'a> crate::codec::Decode<'a> for $name {
            #[inline]
            fn decode(input: &mut crate::codec::Input<'a>) -> Result<Self, crate::codec::DecodeError> {
                let index = input.long()?;
                usize::try_from(index)
                    .ok()
                    .and_then(|index| Self::ALL.get(index).copied())
                    .ok_or(crate::codec::DecodeError::BadBranch(index))
            }
        }
    };
}
