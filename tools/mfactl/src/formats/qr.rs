//! QR codes (ISO/IEC 18004) of URIs: for a terminal, as PNG, as SVG.
//!
//! They hold a seed, so what is returned is cleared when it is dropped, and `Debug` shows nothing of it. The crate `qrcode`
//! has copies that it does not clear.

use std::fmt;

use qrcode::render::{svg, unicode::Dense1x2};
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around the code (section 6.3.8); `qrcode` draws as many.
const QUIET_ZONE: usize = 4;
/// Pixels of a module in a picture; `qrcode` draws as many.
const PIXELS_PER_MODULE: usize = 8;

/// Why there is no QR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// More than the largest code holds.
    #[error("the URI is too long for a QR code")]
    TooLong,
    /// A line of it is longer than it may be.
    #[error("the QR code needs {needed} columns, and the terminal has {columns}")]
    TooWide { needed: usize, columns: usize },
    #[error("the picture could not be encoded")]
    Picture,
}

/// A QR code.
pub struct Qr(QrCode);

impl fmt::Debug for Qr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qr")
            .field("width", &self.0.width())
            .finish_non_exhaustive()
    }
}

impl Qr {
    /// The code of a text, which survives damage to 15 % of it, or to 7 % if the text is long.
    ///
    /// # Errors
    /// [`QrError::TooLong`].
    pub fn encode(text: &str) -> Result<Self, QrError> {
        Self::encode_within(text, usize::MAX)
    }

    /// As [`Qr::encode`], with lines of at most so many columns.
    ///
    /// # Errors
    /// [`QrError::TooLong`], [`QrError::TooWide`].
    pub fn encode_within(text: &str, columns: usize) -> Result<Self, QrError> {
        let mut narrowest = Err(QrError::TooLong);
        for level in [EcLevel::M, EcLevel::L] {
            let Ok(code) = QrCode::with_error_correction_level(text, level) else {
                continue;
            };
            let needed = code.width() + 2 * QUIET_ZONE;
            if needed <= columns {
                return Ok(Self(code));
            }
            narrowest = Err(QrError::TooWide { needed, columns });
        }
        narrowest
    }

    /// Lines of half blocks, two modules in each character. With colours it is black on white in every terminal; without, a
    /// dark module has the foreground colour.
    #[must_use]
    pub fn text(&self, colours: bool) -> Zeroizing<String> {
        const BLACK_ON_WHITE: &str = "\u{1b}[38;5;16;48;5;231m";
        const RESET: &str = "\u{1b}[0m";
        let plain = Zeroizing::new(self.0.render::<Dense1x2>().build());
        if !colours {
            return plain;
        }
        let escapes = (BLACK_ON_WHITE.len() + RESET.len()) * plain.lines().count();
        // Of its final size: a buffer that grows leaves copies behind.
        let mut coloured = Zeroizing::new(String::with_capacity(plain.len() + escapes));
        for (row, line) in plain.lines().enumerate() {
            let line_end = if row == 0 { "" } else { "\n" };
            coloured.extend([line_end, BLACK_ON_WHITE, line, RESET]);
        }
        coloured
    }

    /// A picture in greyscale.
    ///
    /// # Errors
    /// [`QrError::Picture`].
    pub fn png(&self) -> Result<Zeroizing<Vec<u8>>, QrError> {
        let width = self.0.width();
        let side = (width + 2 * QUIET_ZONE) * PIXELS_PER_MODULE;
        let module = |pixel: usize| {
            (pixel / PIXELS_PER_MODULE)
                .checked_sub(QUIET_ZONE)
                .filter(|at| *at < width)
        };
        let is_dark = |x: usize, y: usize| module(x).zip(module(y)).is_some_and(|at| self.0[at] == Color::Dark);
        let mut pixels = Zeroizing::new(Vec::with_capacity(side * side));
        pixels.extend((0..side).flat_map(|y| (0..side).map(move |x| if is_dark(x, y) { 0 } else { u8::MAX })));
        let pixels_per_side = u32::try_from(side).map_err(|_| QrError::Picture)?;
        // Larger than any compression of it.
        let mut file = Zeroizing::new(Vec::with_capacity(pixels.len() * 2 + 1024));
        let mut encoder = png::Encoder::new(&mut *file, pixels_per_side, pixels_per_side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|_| QrError::Picture)?;
        writer.write_image_data(&pixels).map_err(|_| QrError::Picture)?;
        writer.finish().map_err(|_| QrError::Picture)?;
        Ok(file)
    }

    /// A scalable picture.
    #[must_use]
    pub fn svg(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.render::<svg::Color>().build())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use anyhow::{Context as _, Result};

    use super::*;

    const URI: &str = "otpauth://totp/Big%20%26%20Co:me%2Btag%40example.com%20%28phone%29?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3\
                       TQOJQ&issuer=Big%20%26%20Co&algorithm=SHA1&digits=6&period=30";

    /// What an independent decoder reads in a picture.
    fn decode(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> Result<String> {
        let mut picture =
            rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if is_dark(x, y) { 0 } else { 255 });
        let found = picture.detect_grids();
        let (_, text) = found.first().context("no code in the picture")?.decode()?;
        Ok(text)
    }

    /// The picture that a text draws.
    fn decode_text(text: &str) -> Result<String> {
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let side = lines.first().context("no lines")?.len();
        let is_dark = |x: usize, y: usize| {
            let (column, row) = (x / PIXELS_PER_MODULE, y / PIXELS_PER_MODULE);
            match lines.get(row / 2).and_then(|line| line.get(column)) {
                Some('\u{2588}') => true,
                Some('\u{2580}') => row % 2 == 0,
                Some('\u{2584}') => row % 2 == 1,
                _ => false,
            }
        };
        decode(side * PIXELS_PER_MODULE, is_dark)
    }

    #[test]
    fn a_terminal_shows_the_uri_with_and_without_colours() -> Result<()> {
        let qr = Qr::encode(URI)?;
        let plain = qr.text(false);
        assert_eq!(decode_text(&plain)?, URI);
        let coloured = qr.text(true);
        let (begin, end) = ("\u{1b}[38;5;16;48;5;231m", "\u{1b}[0m");
        assert!(
            coloured
                .lines()
                .all(|line| line.starts_with(begin) && line.ends_with(end))
        );
        assert_eq!(coloured.replace(begin, "").replace(end, ""), *plain);
        Ok(())
    }

    #[test]
    fn a_png_shows_the_uri() -> Result<()> {
        let file = Qr::encode(URI)?.png()?;
        let mut reader = png::Decoder::new(std::io::Cursor::new(file.as_slice())).read_info()?;
        let mut pixels = vec![0; reader.output_buffer_size().context("too large")?];
        let info = reader.next_frame(&mut pixels)?;
        let side = usize::try_from(info.width)?;
        assert_eq!(decode(side, |x, y| pixels[y * side + x] == 0)?, URI);
        Ok(())
    }

    #[test]
    fn an_svg_shows_the_uri() -> Result<()> {
        let qr = Qr::encode(URI)?;
        let file = qr.svg();
        let (_, path) = file.split_once(" d=\"M").context("no path")?;
        let (path, _) = path.split_once('"').context("no end")?;
        // Each module is `M{x} {y}h8v8H{x}V{y}`.
        let corners: HashSet<&str> = path.split('M').filter_map(|module| module.split('h').next()).collect();
        let corner = |pixel: usize| pixel / PIXELS_PER_MODULE * PIXELS_PER_MODULE;
        let is_dark = |x: usize, y: usize| corners.contains(format!("{} {}", corner(x), corner(y)).as_str());
        let side = (qr.0.width() + 2 * QUIET_ZONE) * PIXELS_PER_MODULE;
        assert_eq!(decode(side, is_dark)?, URI);
        assert!(
            file.contains(&format!("viewBox=\"0 0 {side} {side}\"")),
            "the quiet zone is drawn"
        );
        Ok(())
    }

    #[test]
    fn the_longest_uri_has_a_code_and_a_longer_one_is_refused() -> Result<()> {
        let long = format!("otpauth://{}", "a".repeat(2_900));
        assert_eq!(decode_text(&Qr::encode(&long)?.text(false))?, long);
        assert_eq!(Qr::encode(&"a".repeat(3_000)).err(), Some(QrError::TooLong));
        Ok(())
    }

    #[test]
    fn a_narrow_terminal_gets_a_smaller_code_and_a_narrower_one_none() -> Result<()> {
        let width = |columns| -> Result<usize, QrError> {
            let text = Qr::encode_within(URI, columns)?.text(false);
            Ok(text.lines().map(|line| line.chars().count()).max().unwrap_or_default())
        };
        let usual = width(usize::MAX)?;
        assert_eq!(width(usual)?, usual);
        let smaller = width(usual - 1)?;
        assert!(smaller < usual);
        assert_eq!(decode_text(&Qr::encode_within(URI, smaller)?.text(false))?, URI);
        let (needed, columns) = (smaller, smaller - 1);
        assert_eq!(width(columns), Err(QrError::TooWide { needed, columns }));
        assert_eq!(Qr::encode_within(&"a".repeat(3_000), 80).err(), Some(QrError::TooLong));
        Ok(())
    }

    #[test]
    fn debug_does_not_show_the_code() -> Result<()> {
        assert_eq!(format!("{:?}", Qr::encode("a")?), "Qr { width: 21, .. }");
        Ok(())
    }
}
