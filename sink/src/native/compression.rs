//! Compressed frames, as ClickHouse takes them over HTTP with `decompress=1`: a checksum of 16 bytes (CityHash 1.0.2,
//! 128 bits) over all that follows; the method; the size with this header and the size before, four bytes each; the
//! LZ4 block.

use lz4_flex::block::{compress_into, get_maximum_output_size};

/// How much goes into one frame before compression, bytes: what ClickHouse itself writes.
const FRAME_BYTES: usize = 1024 * 1024;
const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const LZ4: u8 = 0x82;

/// Why a block could not be compressed; the compressor was given less room than it asks for, which is a bug.
#[derive(Debug, thiserror::Error)]
#[error("cannot compress a block of {bytes} bytes: {cause}")]
pub struct CompressError {
    /// Bytes of the frame.
    pub bytes: usize,
    /// What the compressor says.
    pub cause: lz4_flex::block::CompressError,
}

/// Compresses what is written to it, frame by frame, so that a block never lies uncompressed as a whole.
#[derive(Debug, Default)]
pub struct Frames {
    waiting: Vec<u8>,
    frames: Vec<u8>,
    uncompressed: usize,
}

impl Frames {
    /// Where to write the next bytes; call [`Frames::settle`] after each part of a block.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Compresses the full frames that were written.
    ///
    /// # Errors
    /// Never, unless the compressor breaks its word about its output.
    pub fn settle(&mut self) -> Result<(), CompressError> {
        let full = self.waiting.len() / FRAME_BYTES * FRAME_BYTES;
        self.compress(full)
    }

    /// Compresses what is left and gives all frames.
    ///
    /// # Errors
    /// As [`Frames::settle`].
    pub fn finish(mut self) -> Result<Vec<u8>, CompressError> {
        let all = self.waiting.len();
        self.compress(all)?;
        self.frames.shrink_to_fit();
        Ok(self.frames)
    }

    /// Bytes before compression, so far.
    #[must_use]
    pub fn uncompressed(&self) -> usize {
        self.uncompressed + self.waiting.len()
    }

    fn compress(&mut self, length: usize) -> Result<(), CompressError> {
        for part in self.waiting[..length].chunks(FRAME_BYTES) {
            append_frame(part, &mut self.frames)?;
        }
        self.waiting.drain(..length);
        self.uncompressed += length;
        Ok(())
    }
}

fn append_frame(part: &[u8], frames: &mut Vec<u8>) -> Result<(), CompressError> {
    let start = frames.len();
    let (header, data) = (start + CHECKSUM_BYTES, start + CHECKSUM_BYTES + HEADER_BYTES);
    frames.resize(data + get_maximum_output_size(part.len()), 0);
    let compressed = compress_into(part, &mut frames[data..]);
    let length = compressed.map_err(|cause| CompressError { bytes: part.len(), cause })?;
    frames.truncate(data + length);
    // A frame is bounded by FRAME_BYTES, so both sizes fit.
    frames[header] = LZ4;
    frames[header + 1..header + 5].copy_from_slice(&((HEADER_BYTES + length) as u32).to_le_bytes());
    frames[header + 5..data].copy_from_slice(&(part.len() as u32).to_le_bytes());
    // ClickHouse writes the half that CityHash calls the first before the other.
    let checksum = cityhash_rs::cityhash_102_128(&frames[header..]).rotate_right(64);
    frames[start..header].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}
