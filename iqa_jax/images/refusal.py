"""Why a picture is refused."""


class ImageError(ValueError):
    """An image that is refused; the message names the file and the reason."""


class Refused(ValueError):
    """The reason alone, such as 'declares 9x9 pixels, more than 64'; becomes an ImageError."""
