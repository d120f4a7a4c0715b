//! The part of ASN.1's distinguished encoding (DER) that a certificate needs. It is only written, never read.

/// The types that are needed, by their first byte.
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const NULL: u8 = 0x05;
pub const OBJECT: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const UTC_TIME: u8 = 0x17;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The first byte of a value with the tag `[n]`, explicit; `n` is below 31.
pub const fn explicit(n: u8) -> u8 {
    0xa0 | n
}

/// One value of the type `tag`.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = length.get(zeros..).unwrap_or_default();
    let mut der = Vec::with_capacity(2 + length.len() + content.len());
    der.push(tag);
    if content.len() >= 0x80 {
        der.push(0x80 | length.len() as u8);
        der.extend_from_slice(length);
    } else {
        der.push(content.len() as u8);
    }
    der.extend_from_slice(content);
    der
}

/// One value that is made of others.
pub fn nest(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    value(tag, &parts.concat())
}

/// A bit string of whole bytes.
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes].concat())
}

/// An object identifier. Its first two numbers make the byte `first`; the others are `rest`.
pub fn object(first: u8, rest: &[u32]) -> Vec<u8> {
    let mut content = vec![first];
    for number in rest {
        let digits = (32 - number.leading_zeros()).div_ceil(7).max(1);
        for place in (0..digits).rev() {
            let more = if place > 0 { 0x80 } else { 0 };
            content.push(more | (number >> (7 * place)) as u8 & 0x7f);
        }
    }
    value(OBJECT, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_one_byte_below_128_and_as_few_as_they_need_above() {
        let head = |size: usize| value(OCTET_STRING, &vec![7; size])[..].to_vec();
        assert_eq!(head(0), [4, 0]);
        assert_eq!(head(127)[..3], [4, 127, 7]);
        assert_eq!(head(128)[..4], [4, 0x81, 128, 7]);
        assert_eq!(head(255)[..4], [4, 0x81, 255, 7]);
        assert_eq!(head(256)[..5], [4, 0x82, 1, 0, 7]);
        assert_eq!(head(65_536)[..6], [4, 0x83, 1, 0, 0, 7]);
        assert_eq!(head(65_536).len(), 65_536 + 5);
    }

    #[test]
    fn numbers_of_an_object_identifier_are_in_groups_of_seven_bits() {
        // 1.2.840.113549.1.1.11, as RFC 4055 has it.
        let rsa = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
        assert_eq!(object(0x2a, &[840, 113_549, 1, 1, 11]), rsa);
        assert_eq!(
            object(0x55, &[0, 127, 128, u32::MAX])[2..],
            [0x55, 0, 127, 0x81, 0, 0x8f, 0xff, 0xff, 0xff, 0x7f]
        );
    }
}
