"""The engines that tests start for themselves: on free ports of loopback, in temporary folders, gone afterwards."""
