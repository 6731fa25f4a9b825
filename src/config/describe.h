/* options.def as text for people. */
#pragma once

#include <stdio.h>

enum config_format {
	CONFIG_FORMAT_SAMPLE, /* a commented INI file: config/trimtab.ini */
	CONFIG_FORMAT_SCDOC,  /* the option list of trimtab.conf(5) */
	CONFIG_FORMAT_HELP,   /* plain text for a terminal of 80 columns */
};

/* Writes every option: name, default, what is allowed, what it does. 0, or -errno of the
 * stream. */
int config_describe(FILE *out, enum config_format format);
