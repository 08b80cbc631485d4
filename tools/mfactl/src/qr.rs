//! QR codes (ISO/IEC 18004) of URIs, drawn here and nowhere else: in a terminal, as PNG, as SVG.
//!
//! They hold a seed: every buffer is made in its final size and cleared, and nothing has a `Debug` that shows it.

use std::fmt::{self, Write as _};

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around the code (ISO/IEC 18004, section 6.3.8).
const QUIET: usize = 4;
/// Pixels of a module in a picture.
const SCALE: usize = 8;

/// Why there is no QR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// More than the largest code holds.
    #[error("the URI is too long for a QR code")]
    TooLong,
    /// The picture could not be encoded.
    #[error("the picture could not be encoded")]
    Picture,
}

/// A QR code with its quiet zone.
pub struct Qr {
    /// Modules on a side.
    side: usize,
    dark: Zeroizing<Vec<bool>>,
}

impl fmt::Debug for Qr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qr").field("side", &self.side).finish_non_exhaustive()
    }
}

impl Qr {
    /// The code of a text, with the correction of 15 % of it, or of 7 % if it is long.
    ///
    /// # Errors
    /// [`QrError::TooLong`].
    pub fn of(text: &str) -> Result<Self, QrError> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M)
            .or_else(|_| QrCode::with_error_correction_level(text, EcLevel::L))
            .map_err(|_| QrError::TooLong)?;
        let width = code.width();
        let side = width + 2 * QUIET;
        let mut dark = Zeroizing::new(vec![false; side * side]);
        for (row, modules) in dark.chunks_mut(side).skip(QUIET).take(width).enumerate() {
            for (column, module) in modules.iter_mut().skip(QUIET).take(width).enumerate() {
                *module = code[(column, row)] == Color::Dark;
            }
        }
        Ok(Self { side, dark })
    }

    /// Modules on a side, the quiet zone included.
    #[must_use]
    pub const fn side(&self) -> usize {
        self.side
    }

    /// Whether a module is dark; outside the code it is not.
    #[must_use]
    pub fn is_dark(&self, column: usize, row: usize) -> bool {
        column < self.side && self.dark.get(row * self.side + column).copied().unwrap_or(false)
    }

    /// Lines of half blocks, two modules in each character. With colours it is black on white whatever the terminal's
    /// colours are; without, a dark module is what the terminal writes with.
    #[must_use]
    pub fn lines(&self, colours: bool) -> Zeroizing<String> {
        const BLACK_ON_WHITE: &str = "\u{1b}[38;5;16;48;5;231m";
        const PLAIN: &str = "\u{1b}[0m";
        let longest = self.side * 3 + BLACK_ON_WHITE.len() + PLAIN.len() + 1;
        let mut lines = Zeroizing::new(String::with_capacity(longest * self.side.div_ceil(2)));
        for row in (0..self.side).step_by(2) {
            if row > 0 {
                lines.push('\n');
            }
            lines.push_str(if colours { BLACK_ON_WHITE } else { "" });
            lines.extend((0..self.side).map(|column| {
                match (self.is_dark(column, row), self.is_dark(column, row + 1)) {
                    (true, true) => '\u{2588}',
                    (true, false) => '\u{2580}',
                    (false, true) => '\u{2584}',
                    (false, false) => ' ',
                }
            }));
            lines.push_str(if colours { PLAIN } else { "" });
        }
        lines
    }

    /// A PNG in shades of grey.
    ///
    /// # Errors
    /// [`QrError::Picture`].
    pub fn png(&self) -> Result<Zeroizing<Vec<u8>>, QrError> {
        let side = self.side * SCALE;
        let pixels: Zeroizing<Vec<u8>> = Zeroizing::new(
            (0..side)
                .flat_map(|y| (0..side).map(move |x| (x / SCALE, y / SCALE)))
                .map(|(column, row)| if self.is_dark(column, row) { 0 } else { u8::MAX })
                .collect(),
        );
        let pixels_on_a_side = u32::try_from(side).map_err(|_| QrError::Picture)?;
        // Larger than any compression of it.
        let mut file = Zeroizing::new(Vec::with_capacity(pixels.len() * 2 + 1024));
        let mut encoder = png::Encoder::new(&mut *file, pixels_on_a_side, pixels_on_a_side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|_| QrError::Picture)?;
        writer.write_image_data(&pixels).map_err(|_| QrError::Picture)?;
        writer.finish().map_err(|_| QrError::Picture)?;
        Ok(file)
    }

    /// An SVG.
    #[must_use]
    pub fn svg(&self) -> Zeroizing<String> {
        const LONGEST_MODULE: usize = "M999 999h1v1h-1z".len();
        let mut file = Zeroizing::new(String::with_capacity(512 + LONGEST_MODULE * self.dark.len()));
        // Writing to a string does not fail.
        let _ = write!(
            file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" width=\"{pixels}\" \
             height=\"{pixels}\" shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"",
            side = self.side,
            pixels = self.side * SCALE,
        );
        for row in 0..self.side {
            for column in (0..self.side).filter(|column| self.is_dark(*column, row)) {
                let _ = write!(file, "M{column} {row}h1v1h-1z");
            }
        }
        file.push_str("\"/></svg>\n");
        file
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;

    const URI: &str = "otpauth://totp/Big%20%26%20Co:me%2Btag%40example.com%20%28phone%29?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3\
                       TQOJQ&issuer=Big%20%26%20Co&algorithm=SHA1&digits=6&period=30";

    /// What an independent decoder reads in a picture.
    fn decoded(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> Result<String> {
        let mut picture =
            rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if is_dark(x, y) { 0 } else { 255 });
        let found = picture.detect_grids();
        let (_, text) = found.first().context("no code in the picture")?.decode()?;
        Ok(text)
    }

    #[test]
    fn what_is_drawn_in_a_terminal_is_decoded_to_the_uri() -> Result<()> {
        let qr = Qr::of(URI)?;
        let lines: Vec<Vec<char>> = qr.lines(false).lines().map(|line| line.chars().collect()).collect();
        let dark = |x: usize, y: usize| {
            let (column, row) = (x / SCALE, y / SCALE);
            match lines.get(row / 2).and_then(|line| line.get(column)) {
                Some('\u{2588}') => true,
                Some('\u{2580}') => row % 2 == 0,
                Some('\u{2584}') => row % 2 == 1,
                _ => false,
            }
        };
        assert_eq!(decoded(qr.side() * SCALE, dark)?, URI);
        let coloured = qr.lines(true);
        let plain = coloured
            .replace("\u{1b}[38;5;16;48;5;231m", "")
            .replace("\u{1b}[0m", "");
        assert_eq!(plain, *qr.lines(false));
        Ok(())
    }

    #[test]
    fn a_png_is_decoded_to_the_uri() -> Result<()> {
        let file = Qr::of(URI)?.png()?;
        let mut reader = png::Decoder::new(std::io::Cursor::new(file.as_slice())).read_info()?;
        let mut pixels = vec![0; reader.output_buffer_size().context("too large")?];
        let info = reader.next_frame(&mut pixels)?;
        let side = usize::try_from(info.width)?;
        assert_eq!(decoded(side, |x, y| pixels[y * side + x] == 0)?, URI);
        Ok(())
    }

    #[test]
    fn an_svg_has_the_same_modules() -> Result<()> {
        let qr = Qr::of(URI)?;
        let file = qr.svg();
        let (_, path) = file.split_once("<path d=\"M").context("no path")?;
        let (path, _) = path.split_once("h1v1h-1z\"").context("no end")?;
        let modules: std::collections::HashSet<&str> = path.split("h1v1h-1zM").collect();
        let dark = |x: usize, y: usize| modules.contains(format!("{} {}", x / SCALE, y / SCALE).as_str());
        assert_eq!(decoded(qr.side() * SCALE, dark)?, URI);
        Ok(())
    }

    #[test]
    fn the_longest_uri_that_has_a_code_is_decoded_and_a_longer_one_is_refused() -> Result<()> {
        let long = format!("otpauth://{}", "a".repeat(2_900));
        let qr = Qr::of(&long)?;
        assert_eq!(decoded(qr.side() * 4, |x, y| qr.is_dark(x / 4, y / 4))?, long);
        assert_eq!(Qr::of(&"a".repeat(3_000)).err(), Some(QrError::TooLong));
        Ok(())
    }

    #[test]
    fn nothing_of_the_code_is_in_debug_output() -> Result<()> {
        assert_eq!(format!("{:?}", Qr::of("a")?), "Qr { side: 29, .. }");
        Ok(())
    }
}
