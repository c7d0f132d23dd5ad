"""What bytes that are no message of ours raise where they are decoded. Runs in: any process."""

import msgspec

# msgspec lets text that is not UTF-8 out as UnicodeDecodeError, and nesting as RecursionError.
GARBLED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
