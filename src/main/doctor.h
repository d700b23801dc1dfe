/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pgmill doctor: joins the checks of all floors. doctor.c asks and prints, doctor_files.c and doctor_units.c look at this host.
 */
#include "base/verb.h"
#include "store/check.h"

extern const Verb doctor_verb;
extern const Check file_checks[], unit_checks[];
