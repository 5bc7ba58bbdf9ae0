//! A stream of frames, split anywhere: the frames are the same as when it comes in one piece.

use bytes::Bytes;
use kafka_wire::protocol::frame::FrameReader;

const LIMIT: usize = 4096;

/// The first bytes of `data` say where the stream, the rest, is split.
pub fn run(data: &[u8]) {
    let Some((&splits, rest)) = data.split_first() else { return };
    let (splits, stream) = rest.split_at(usize::from(splits).min(rest.len()));
    let whole = read(&[stream]);
    let mut pieces = Vec::new();
    let mut left = stream;
    for split in splits {
        let (piece, after) = left.split_at(usize::from(*split).min(left.len()));
        pieces.push(piece);
        left = after;
    }
    pieces.push(left);
    assert_eq!(read(&pieces), whole);
    let framed: usize = whole.0.iter().map(|frame| frame.len() + 4).sum();
    assert!(framed <= stream.len());
}

/// The frames up to the first error, and whether there was one.
fn read(pieces: &[&[u8]]) -> (Vec<Bytes>, bool) {
    let mut reader = FrameReader::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        reader.read_buffer().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert!((4..=LIMIT).contains(&frame.len()));
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
