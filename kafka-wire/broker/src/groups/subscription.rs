//! What a consumer's metadata in a classic group says of the topics that it wants
//! (`ConsumerProtocolSubscription`): the members' own affair, but offsets of those topics are not deleted.

/// The topics; those up to the first byte that makes no sense.
pub(crate) fn topics(metadata: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    let Some((_version, rest)) = metadata.split_first_chunk::<2>() else { return topics };
    let Some((count, mut rest)) = rest.split_first_chunk::<4>() else { return topics };
    for _ in 0..i32::from_be_bytes(*count).max(0) {
        let Some((topic, behind)) = string(rest) else { break };
        topics.push(topic);
        rest = behind;
    }
    topics
}

fn string(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_as_far_as_the_bytes_go() {
        let metadata = [&[0, 1, 0, 0, 0, 2, 0, 1][..], b"a", &[0, 2], b"bc", &[0, 0, 0, 0]].concat();
        assert_eq!(topics(&metadata), ["a", "bc"]);
        assert_eq!(topics(&metadata[..10]), ["a"]);
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), [""; 0]);
        assert_eq!(topics(&[]), [""; 0]);
    }
}
