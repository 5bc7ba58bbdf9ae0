//! Writes the protocol's primitive types, compact ones in flexible versions.

use bytes::{BufMut as _, Bytes};

use super::request::FrameBuilder;
use crate::error::{Error, ErrorKind, Result};

/// Appends to a frame.
pub(super) struct Writer<'a> {
    frame: &'a mut FrameBuilder,
    flexible: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(frame: &'a mut FrameBuilder, flexible: bool) -> Self {
        Self { frame, flexible }
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.frame.buffer().put_u8(value.into());
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.frame.buffer().put_i8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.frame.buffer().put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.frame.buffer().put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.frame.buffer().put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: [u8; 16]) {
        self.frame.buffer().put_slice(&value);
    }

    pub(super) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.frame.buffer().put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.frame.buffer().put_u8(value as u8);
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) -> Result<()> {
        match value.map(|text| i16::try_from(text.len())) {
            None if self.flexible => self.varint(0),
            None => self.i16(-1),
            Some(Ok(length)) if self.flexible => self.varint(length as u32 + 1),
            Some(Ok(length)) => self.i16(length),
            Some(Err(_)) => return Err(too_long("string", value.map_or(0, str::len), i16::MAX as usize)),
        }
        self.frame.buffer().put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    pub(super) fn string(&mut self, value: &str) -> Result<()> {
        self.nullable_string(Some(value))
    }

    /// The length of an array, or of bytes that follow.
    pub(super) fn length(&mut self, length: usize) -> Result<()> {
        let Ok(length) = i32::try_from(length) else {
            return Err(too_long("array or bytes", length, i32::MAX as usize));
        };
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.i32(length);
        }
        Ok(())
    }

    /// The array that is null.
    pub(super) fn null_length(&mut self) {
        if self.flexible {
            self.varint(0);
        } else {
            self.i32(-1);
        }
    }

    /// Bytes that may be null.
    pub(super) fn nullable_bytes(&mut self, value: Option<&Bytes>) -> Result<()> {
        let Some(bytes) = value else {
            self.null_length();
            return Ok(());
        };
        self.length(bytes.len())?;
        self.frame.buffer().put_slice(bytes);
        Ok(())
    }

    /// Bytes in pieces, which the frame refers to.
    pub(super) fn chunks(&mut self, chunks: &[Bytes]) -> Result<()> {
        self.length(chunks.iter().map(Bytes::len).sum())?;
        for chunk in chunks {
            self.frame.push(chunk.clone());
        }
        Ok(())
    }

    /// The end of a struct without tagged fields.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.varint(0);
        }
    }
}

fn too_long(what: &str, length: usize, limit: usize) -> Error {
    Error::new(ErrorKind::Usage, format!("write a {what} of {length} bytes, Kafka's limit is {limit}"))
}
