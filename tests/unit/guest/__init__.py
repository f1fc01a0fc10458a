"""Unit tests of the test guest."""
