//! The records of all measurements: the same bytes as the programs for other clients write.

/// Different records; they are sent again and again.
const POOL: usize = 10_000;
const KEY_BYTES: usize = 8;

const WORDS: [&str; 16] = [
    "user", "event", "click", "amount", "city", "order", "status", "price", "item", "country", "session",
    "device", "mobile", "Berlin", "Tokyo", "checkout",
];

/// Keys and values, from a fixed seed.
pub(super) struct Payloads(Vec<([u8; KEY_BYTES], Vec<u8>)>);

impl Payloads {
    /// Records of `size` bytes, key and value together.
    pub(super) fn new(size: usize) -> Self {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let record = |index| {
            let mut key = [b'0'; KEY_BYTES];
            for (byte, digit) in key.iter_mut().zip(format!("k{index:07}").bytes()) {
                *byte = digit;
            }
            (key, value(&mut random, size.saturating_sub(KEY_BYTES).max(2)))
        };
        Self((0..POOL).map(record).collect())
    }

    /// The record that is sent as number `index`.
    pub(super) fn record(&self, index: u64) -> (&[u8], &[u8]) {
        let (key, value) = &self.0[(index % POOL as u64) as usize];
        (key, value)
    }
}

fn value(random: &mut Xorshift, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 64);
    text.push('{');
    while text.len() < size {
        let r = random.next();
        let word = |shift: u32| WORDS[((r >> shift) & 15) as usize];
        text.push_str(&format!("\"{}\":{},\"{}\":\"{}\",", word(0), (r >> 8) % 100_000, word(32), word(40)));
    }
    let mut value = text.into_bytes();
    value.truncate(size - 1);
    value.push(b'}');
    value
}

struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
